/* Preloaded into a program, it shows it a time of day that is off by SKEW_SECONDS. Other clocks are as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int failed = real(clock, now);
    const char *skew = getenv("SKEW_SECONDS");
    if (!failed && clock == CLOCK_REALTIME && skew) {
        now->tv_sec += atol(skew);
    }
    return failed;
}
