"""Real classes of transformers and timm, built tiny from configurations: what public models hold, and where.

`MODELS` says of each name which library has it, and what makes it of the name. Nothing is downloaded.
"""

import importlib
import os

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

_DECLARED = []  # the library of operators lives as long as somebody holds it


def imported(name):
    """Import a library, beside a torchvision whose operators were built for another torch, if one is there: it is asked whether
    they exist, and nothing here calls them."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        pass
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _DECLARED[-1].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(name)


def library(name):
    """Import a library or skip; where it must be there (FASTINIT_TEST_LIBRARIES both, FASTINIT_TEST_ALL transformers), fail."""
    try:
        return imported(name)
    except Exception as error:  # a library that was built for another torch fails in many ways
        must = ["FASTINIT_TEST_LIBRARIES", *["FASTINIT_TEST_ALL"] * (name == "transformers")]
        if any(os.environ.get(variable) == "1" for variable in must):
            raise
        return pytest.skip(f"{name} cannot be imported: {error}")


_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VISION = {**_SIZES, "image_size": 16, "patch_size": 8, "num_labels": 5}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 2}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 64}
_SEQ = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
_SEQ = {**_SEQ, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 64}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_DEEPSEEK = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 2}
_DEEPSEEK = {**_DEEPSEEK, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4}
_WAV = {"conv_dim": (16, 16), "conv_kernel": (3, 3), "conv_stride": (2, 2), "num_conv_pos_embeddings": 8}
_WAV = {**_SIZES, **_WAV, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 2}
_STAGES = {"depths": [1, 1], "num_labels": 5}
_SWIN = {**_STAGES, "image_size": 32, "patch_size": 4, "embed_dim": 16, "num_heads": [2, 2], "window_size": 4}
_DISTIL = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 64}
_WHISPER = {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1}
_WHISPER = {**_WHISPER, "eos_token_id": 2, "decoder_start_token_id": 1}
_MAE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
_MAE = {f"decoder_{name}": size for name, size in _MAE.items()}
_TIMM_VIT = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 4}
_TIMM_SWIN = {"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)}
_CLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 16}
_CLIP_TEXT, _CLIP_VISION = {**_CLIP, "vocab_size": 64}, {**_CLIP, "image_size": 16, "patch_size": 8}

# class -> the arguments of its configuration
_TRANSFORMERS = {
    "LlamaForCausalLM": _DECODER,
    "MistralForCausalLM": _DECODER,
    "GemmaForCausalLM": _DECODER,
    "Gemma2ForCausalLM": _DECODER,
    "Gemma3ForCausalLM": _DECODER,
    "MixtralForCausalLM": {**_DECODER, **_EXPERTS},
    "GptOssForCausalLM": {**_DECODER, **_EXPERTS},
    "Qwen2ForCausalLM": _DECODER,
    "Qwen3MoeForCausalLM": {**_DECODER, **_EXPERTS},
    "DeepseekV3ForCausalLM": {**_DECODER, **_EXPERTS, **_DEEPSEEK},
    "Olmo2ForCausalLM": _DECODER,
    "CohereForCausalLM": _DECODER,
    "Phi3ForCausalLM": _DECODER,
    "GPT2LMHeadModel": _GPT,
    "GPTJForCausalLM": {**_GPT, "rotary_dim": 4},
    "GPTNeoXForCausalLM": _DECODER,
    "OPTForCausalLM": {**_DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 16},
    "BloomForCausalLM": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64},
    "FalconForCausalLM": _SIZES,
    "MptForCausalLM": {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64},
    "MambaForCausalLM": {**_SIZES, "state_size": 8},
    "Mamba2ForCausalLM": {**_SIZES, "num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8},
    "JambaForCausalLM": {**_DECODER, **_EXPERTS, "use_mamba_kernels": False},
    "RwkvForCausalLM": {**_SIZES, "attention_hidden_size": 32},
    "RecurrentGemmaForCausalLM": {**_DECODER, "lru_width": 32, "num_hidden_layers": 3},
    "BertForMaskedLM": _SIZES,
    "RobertaForMaskedLM": {**_SIZES, "pad_token_id": 1},
    "ModernBertForMaskedLM": {**_DECODER, "cls_token_id": 1, "sep_token_id": 2},
    "DistilBertForMaskedLM": {**_DISTIL, "sinusoidal_pos_embds": True},
    "DebertaV2ForMaskedLM": {**_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "XLNetLMHeadModel": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "vocab_size": 64},
    "T5ForConditionalGeneration": _T5,
    "MT5ForConditionalGeneration": {**_T5, "feed_forward_proj": "gated-gelu"},
    "BartForConditionalGeneration": {**_SEQ, "max_position_embeddings": 16},
    "MarianMTModel": {**_SEQ, "max_position_embeddings": 16, "pad_token_id": 0, "decoder_start_token_id": 0},
    "WhisperForConditionalGeneration": {**_SEQ, **_WHISPER},
    "ViTForImageClassification": _VISION,
    "ViTMAEForPreTraining": {**_VISION, **_MAE},
    "DeiTForImageClassificationWithTeacher": _VISION,
    "BeitForImageClassification": {**_VISION, "use_relative_position_bias": True, "use_mask_token": True},
    "Dinov2WithRegistersForImageClassification": _VISION,
    "SwinForImageClassification": _SWIN,
    "Swinv2ForImageClassification": _SWIN,
    "ConvNextV2ForImageClassification": {**_STAGES, "num_stages": 2, "hidden_sizes": [16, 32]},
    "ResNetForImageClassification": {**_STAGES, "embedding_size": 16, "hidden_sizes": [32, 32]},
    "MobileViTForImageClassification": {"hidden_sizes": [16] * 3, "neck_hidden_sizes": [8] * 6 + [16], "num_attention_heads": 2},
    "DetrForObjectDetection": {**_SEQ, "num_queries": 4, "out_features": ["stage2"]},
    "DeformableDetrForObjectDetection": {**_SEQ, "num_queries": 4, "num_feature_levels": 3, "out_features": ["stage1", "stage2"]},
    "YolosForObjectDetection": {**_VISION, "image_size": [16, 16], "num_detection_tokens": 4},
    "CLIPModel": {"text_config": _CLIP_TEXT, "vision_config": _CLIP_VISION, "projection_dim": 16},
    "SiglipModel": {"text_config": _CLIP_TEXT, "vision_config": _CLIP_VISION},
    "Wav2Vec2ForPreTraining": {**_WAV, "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16},
    "HubertForCTC": _WAV,
    "ASTForAudioClassification": {**_SIZES, "max_length": 32, "num_mel_bins": 16},
}
# model of its registry, or module and class -> arguments; what follows a blank tells two of one name apart
_TIMM = {
    "vit_tiny_patch16_224": _TIMM_VIT,
    "vit_tiny_patch16_224 jax": {**_TIMM_VIT, "weight_init": "jax"},
    "deit3_small_patch16_224": _TIMM_VIT,
    "deit_tiny_distilled_patch16_224": _TIMM_VIT,
    "eva02_tiny_patch14_224": {**_TIMM_VIT, "img_size": 28},
    "beit_base_patch16_224": _TIMM_VIT,
    "test_vit_relpos": {},
    "resnet18": {"channels": (8, 8, 16, 16), "zero_init_last": True},
    "resnet50": {"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1), "zero_init_last": True},
    "seresnext50_32x4d": {"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1), "cardinality": 4, "base_width": 32},
    "resnetv2_50": {"channels": (32, 32, 32, 32), "layers": (1, 1, 1, 1)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "swin_tiny_patch4_window7_224": {**_TIMM_SWIN, "img_size": 28},
    "swinv2_cr_tiny_224": {**_TIMM_SWIN, "window_size": 4},
    "swinv2_tiny_window8_256": {**_TIMM_SWIN, "window_size": 4},
    "cait_xxs24_224": {**_TIMM_VIT, "depth": 1},
    "xcit_nano_12_p16_224": {**_TIMM_VIT, "depth": 1},
    "test_nfnet": {},
    "test_efficientnet": {},
    "test_efficientnet_evos": {},
    "mobilenetv3_small_050": {},
    "mlp_mixer.MlpMixer": {"img_size": 32, "num_blocks": 2, "embed_dim": 32},
    "levit.Levit": {"img_size": 32, "embed_dim": (32,) * 3, "num_heads": (2,) * 3, "depth": (1,) * 3, "key_dim": 8},
    "metaformer.MetaFormer": {"depths": (1,) * 4, "dims": (8, 16, 16, 16)},
    "mobilevit_xxs": {},
    "mobilevitv2_050": {},
    "coat_lite_tiny": {"img_size": 32, "serial_depths": (1,) * 4, "embed_dims": (32,) * 4},
    "davit_tiny": {"depths": (1,) * 4, "embed_dims": (8, 16, 16, 16), "num_heads": (2,) * 4},
    "tnt_s_patch16_224": {"img_size": 32, "embed_dim": 32, "depth": 1, "inner_dim": 16},
    "test_coatnet": {},
    "test_byobnet": {},
    "test_mambaout": {},
    "edgenext_xx_small": {},
    "fastvit_t8": {"layers": (1,) * 4, "embed_dims": (8, 16, 16, 16)},
    "naflexvit_base_patch16_gap": {"depth": 2, "embed_dim": 32, "num_heads": 4},
}


def transformers_model(name):
    """A model of a tiny configuration; what takes a backbone gets a ResNet, whose outputs are told among its sizes."""
    transformers = imported("transformers")
    kind, sizes = getattr(transformers, name), dict(_TRANSFORMERS[name])
    if "out_features" in sizes:
        stages = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "out_features": sizes.pop("out_features")}
        sizes["backbone_config"] = transformers.ResNetConfig(**stages)
    return kind(kind.config_class(**sizes))


def timm_model(name):
    timm, (module, _, kind) = imported("timm"), name.split()[0].partition(".")
    sizes = {"num_classes": 5, **_TIMM[name]}
    return (
        getattr(importlib.import_module(f"timm.models.{module}"), kind)(**sizes) if kind else timm.create_model(module, **sizes)
    )


MODELS = {
    **{name: ("transformers", transformers_model) for name in _TRANSFORMERS},
    **{name: ("timm", timm_model) for name in _TIMM},
}
