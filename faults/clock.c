/* The time of day that a program sees, shifted by the seconds in the file that ATOM_FAULTS_CLOCK names.
 *
 * Loaded with LD_PRELOAD. Debian's libfaketime was tried first: version 0.9.10 shifts absolute sleeps on the monotonic
 * clock too, which makes every `time.sleep` of Python 3.11 fail. Here nothing but CLOCK_REALTIME is touched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;
static int (*next_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void attach(void) {
    *(void **)&next_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    const char *path = getenv("ATOM_FAULTS_CLOCK");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0)
        return;
    void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (page != MAP_FAILED)
        offset = page;
}

static int64_t shift(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (!result)
        now->tv_sec += shift();
    return result;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept)
        *kept = now.tv_sec;
    return now.tv_sec;
}

/* A deadline by the shifted clock, which the kernel measures by the true one: multiprocessing waits like this. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict deadline) {
    struct timespec real = *deadline;
    real.tv_sec -= shift();
    return next_sem_timedwait(semaphore, &real);
}
