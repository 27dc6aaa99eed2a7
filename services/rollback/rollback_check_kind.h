/* rollback_check_kind.h - the kinds of checks: one file per kind behind this table of functions.
 *
 * A kind is asked for one side at a time, of checks that name {{address}} for one instance at a time; rollback_check.c makes one sample of the answers. */
#ifndef REDOUBT_ROLLBACK_CHECK_KIND_H
#define REDOUBT_ROLLBACK_CHECK_KIND_H

#include "rollback/rollback_check.h"

#define CHECK_TEXT 200

enum check_said {
    CHECK_NOTHING, /* it could not be asked, or there is no answer: never a pass */
    CHECK_PASSED,
    CHECK_FAILED,
    CHECK_NUMBER, /* value */
    CHECK_COUNTED, /* bad, all: counters */
};
struct check_answer {
    enum check_said said;
    double value;
    uint64_t bad, all;
    char text[CHECK_TEXT]; /* for people; no secrets */
};
typedef void (*check_done)(void *ctx, const struct check_answer *a);

struct check_ask {
    const struct check_side *side;
    int which;           /* 0 = the former version, 1 = the one that is gone back to */
    const char *address; /* of one instance; NULL = the check names no address */
};

struct check_kind {
    const char *name;
    int sample;        /* enum rollback_sample_kind, also of a check that could not be asked */
    /* Fills *ret_own, which the kind keeps between questions. 0, or -1 with the reason in e: wrong settings. */
    int (*open)(struct service *s, const struct set_rb_check *set, void **ret_own, struct err *e);
    void (*close)(void *own); /* nothing is asked any more */
    /* done comes exactly once, later, on the loop; it is valid only inside. Nothing of q is used after this returns. */
    void *(*ask)(void *own, const struct check_ask *q, check_done done, void *ctx);
    void (*cancel)(void *handle); /* done comes later with CHECK_NOTHING, if it has not come yet */
};
extern const struct check_kind check_command, check_http, check_known, check_prometheus, check_json, check_nats;

#endif
