#include "steps.h"

#include "agent.h"

struct timer {
  double due_ms;
  const char *name;
  steps_action *action;
  void *subject;
};

// In the order in which they were set; the first `timer_count` are set.
static struct timer timers[STEPS_TIMERS];
static size_t timer_count;
static double now_ms;

static void forget(size_t index) {
  timer_count--;
  for (size_t i = index; i < timer_count; i++) timers[i] = timers[i + 1];
}

// The timer that is due first; `timer_count` where none is set.
static size_t first_timer(void) {
  size_t first = 0;
  for (size_t i = 1; i < timer_count; i++) {
    if (timers[i].due_ms < timers[first].due_ms) first = i;
  }
  return first;
}

void steps_begin(double now) { now_ms = now; }

void steps_end(void) {
  size_t first = first_timer();
  while (first < timer_count && timers[first].due_ms <= now_ms) {
    struct timer fired = timers[first];
    forget(first);
    fired.action(fired.subject);
    first = first_timer();
  }
  if (first == timer_count) {
    wasm_worker_agent_job_wake(NULL);
    return;
  }
  double left_ms = timers[first].due_ms - now_ms;
  uint32_t after_ms = (uint32_t)left_ms;
  if (after_ms < left_ms) after_ms++;
  wasm_worker_agent_job_wake(&after_ms);
}

bool steps_after(uint32_t ms, const char *name, steps_action *action, void *subject) {
  if (timer_count == STEPS_TIMERS) return false;
  // One that is set now fires in a later step, also after 0 ms.
  timers[timer_count++] = (struct timer){now_ms + (ms > 0 ? ms : 1), name, action, subject};
  return true;
}

void steps_clear(steps_action *action) {
  for (size_t i = timer_count; i-- > 0;) {
    if (timers[i].action == action) forget(i);
  }
}

static agent_string_t string(const char *text) {
  agent_string_t string;
  agent_string_set(&string, text);
  return string;
}

void steps_report(void) {
  wasm_worker_agent_job_task_t tasks[STEPS_TIMERS + 1];
  tasks[0] = (wasm_worker_agent_job_task_t){string("main"), string("events")};
  for (size_t i = 0; i < timer_count; i++) {
    tasks[i + 1] = (wasm_worker_agent_job_task_t){string(timers[i].name), string("a timer")};
  }
  wasm_worker_agent_job_list_task_t list = {tasks, timer_count + 1};
  wasm_worker_agent_job_report_tasks(&list);
}
