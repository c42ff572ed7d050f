/* Reading a mapped file whose disk may fail: the kernel answers with SIGBUS, which ends the process. `wr_guarded` turns it into an errno.

   The handler jumps out of the guarded body only: it may hold no lock and own no memory. A SIGBUS of anybody else goes to whoever
   had the signal before. Costs a sigsetjmp without the signal mask, some ten nanoseconds. */
#ifndef WR_BUSGUARD_H
#define WR_BUSGUARD_H
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

typedef void (*wr_body)(void *);

static __thread sigjmp_buf *wr_bus_jump;
static struct sigaction wr_bus_before;

static void wr_bus_caught(int number, siginfo_t *info, void *context) {
    (void)number; (void)info; (void)context;
    if (wr_bus_jump) siglongjmp(*wr_bus_jump, 1);
    sigaction(SIGBUS, &wr_bus_before, NULL);    /* the instruction is tried again, and meets the handler of before */
}

/* Once per process: 0 or errno. */
static int wr_bus_setup(void) {
    struct sigaction action = {0};
    action.sa_sigaction = wr_bus_caught;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    return sigaction(SIGBUS, &action, &wr_bus_before) ? errno : 0;
}

/* Run `body(argument)`: 0, or EIO if a page that it touched could not be read. */
static int wr_guarded(wr_body body, void *argument) {
    sigjmp_buf here;
    if (sigsetjmp(here, 0)) {
        wr_bus_jump = NULL;
        return EIO;
    }
    wr_bus_jump = &here;
    body(argument);
    wr_bus_jump = NULL;
    return 0;
}
#endif
