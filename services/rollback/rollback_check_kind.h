/* rollback_check_kind.h - the kinds of checks: one file per kind behind this table of functions.
 *
 * A kind is asked for one side at a time, and if the check is made of each instance, for one instance at a time; rollback_check.c makes one sample of the
 * answers. */
#ifndef REDOUBT_ROLLBACK_CHECK_KIND_H
#define REDOUBT_ROLLBACK_CHECK_KIND_H

#include "rollback/rollback_check.h"

#define CHECK_TEXT 200

enum check_said {
    CHECK_NOTHING, /* it could not be asked, or there is no answer: never a pass */
    CHECK_PASSED,
    CHECK_FAILED,
    CHECK_NUMBER,  /* value */
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
    const char
        *address; /* of one instance; "" = none: it is not made of each instance, or (command) no instance has one */
};

struct check_kind {
    /* 0, or -1 with the reason in e: wrong settings. `set` stays valid until close. */
    int (*open)(struct service *s, const struct set_rb_check *set, void **ret_own, struct err *e);
    void (*close)(void *own); /* nothing is asked any more; NULL is fine */
    int (*sample)(
        const struct set_rb_check *set); /* enum rollback_sample_kind of its answers, also of one that is missing */
    bool (*each)(const struct set_rb_check *set); /* made of each instance */
    /* done comes exactly once, later, on the loop. Nothing of q is used after this returns. */
    void *(*ask)(void *own, const struct check_ask *q, check_done done, void *ctx);
    void (*cancel)(void *handle); /* only before done; which comes later, with CHECK_NOTHING */
};
extern const struct check_kind check_command, check_http, check_prometheus, check_json, check_nats;

/* ---- what the kinds share (rollback_check_text.c) ---- */

/* What it says, cut where a character ends, without control characters. */
__attribute__((format(printf, 3, 4))) void check_say(struct check_answer *a, enum check_said said, const char *fmt,
                                                     ...);

enum check_escape { CHECK_RAW, CHECK_URL, CHECK_JSON_TEXT, CHECK_PROMQL };
/* Fills in {{address}}, {{version}}, {{digest}} and {{side}}, written as the text needs it. malloc'ed; NULL with the reason in e. */
char *check_fill(const char *text, const struct check_ask *q, enum check_escape how, struct err *e);
bool check_names(const char *text, const char *name);
/* For open: only known names, and of an URL: http:// or https:// with a host. 0, or -1 with the reason in e. */
int check_text_ok(const char *key, const char *text, struct err *e);
int check_url_ok(const char *url, struct err *e);
/* Percent-encoded, malloc'ed; NULL if memory is out. */
char *check_encode(const char *text);
/* Settings' headers as http.h wants them: NULL-terminated, the texts belong to the settings; freed by free(). NULL if memory is out. */
const char **check_headers(const struct set_rb_check *set, const char *more);
/* What a call came to, if it is no answer of use: CHECK_NOTHING for no answer at all, CHECK_FAILED for a status that is not 2xx; true if it is one. */
bool check_no_answer(const struct http_result *r, struct check_answer *a);
/* Is the status one of success? Otherwise says so. */
bool check_status(const struct http_result *r, struct check_answer *a);

#endif
