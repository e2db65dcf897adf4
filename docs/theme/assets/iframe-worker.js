// Browsers start no worker for a page that is opened from a file. There, the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      const answer = "postMessage = data => frameElement.worker.dispatchEvent(new MessageEvent('message', { data }))";
      frame.hidden = true;
      frame.worker = this;
      frame.srcdoc = `<script>${answer}</script><script src="${new URL(url, location)}"></script>`;
      this.loaded = new Promise((loaded) => frame.addEventListener("load", loaded)).then(() => frame.contentWindow);
      document.body.append(frame);
    }

    postMessage(data) {
      this.loaded.then((frame) => frame.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
