/* Checks of the debug build (WATCHROOM_DEBUG=1): a kernel that breaks its own invariant stops at once. Nothing in the release build. */
#ifndef WATCHROOM_CHECK_H
#define WATCHROOM_CHECK_H
#ifdef CYTHON_WITHOUT_ASSERTIONS
#define wr_check(condition) ((void)0)
#else
#include <stdio.h>
#include <stdlib.h>
#define wr_check(condition) \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition), abort()))
#endif
#endif
