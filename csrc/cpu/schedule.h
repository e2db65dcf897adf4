/* How gcc schedules the loops. Included before anything that the loops inline, so that all of it is compiled alike. */
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
/* By itself gcc leaves the rounds of a group in the order in which they are written, one chain of multiplies after another: a
 * fill then takes 12 % longer. */
#pragma GCC optimize("schedule-insns", "sched-pressure")
#endif
