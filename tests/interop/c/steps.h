// The time of an agent in C: timers that fire in the steps of a job. A step is `steps_begin`, then a switch over its events, then `steps_end`.
#ifndef STEPS_H
#define STEPS_H

#include <stdbool.h>
#include <stdint.h>

// Timers that can be set at once.
#define STEPS_TIMERS 64

typedef void steps_action(void *subject);

void steps_begin(double now_ms);

// Fire the timers that are due, then set the job's own timer for the next one.
void steps_end(void);

// Call `action(subject)` in a later step, in so many milliseconds; `name` is for `steps_report`. False: there are too many timers.
bool steps_after(uint32_t ms, const char *name, steps_action *action, void *subject);

// Forget the timers of an action.
void steps_clear(steps_action *action);

// Answer `tasks-wanted`: the timers, and the wait for events.
void steps_report(void);

#endif
