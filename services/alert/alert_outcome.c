/* alert_outcome.c - what the end of one attempt means: the first row that fits. */
#include "alert/alert_outcome.h"
#include <stddef.h>

#define ON_SMTP (1u << ALERT_PROTO_SMTP)
#define ON_HTTP (1u << ALERT_PROTO_HTTP)
#define ON_FILE (1u << ALERT_PROTO_FILE)
#define ON_HAND (1u << ALERT_PROTO_HAND)
#define ON_EXEC (1u << ALERT_PROTO_EXEC)
#define ON_ALL  (ON_SMTP | ON_HTTP | ON_FILE | ON_HAND | ON_EXEC)

static const struct {
    enum alert_fault fault;
    unsigned protos;
    int status_min, status_max;
    enum alert_class class;
} rows[] = {
    {ALERT_FAULT_NONE, ON_FILE, 0, 999, ALERT_CLASS_ACCEPTED},

    {ALERT_FAULT_NONE, ON_HTTP, 200, 299, ALERT_CLASS_ACCEPTED},
    {ALERT_FAULT_NONE, ON_HTTP, 300, 399, ALERT_CLASS_REFUSED}, /* moved: redirects are not followed */
    {ALERT_FAULT_NONE, ON_HTTP, 408, 408, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_NONE, ON_HTTP, 429, 429, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_NONE, ON_HTTP, 400, 400, ALERT_CLASS_REJECTED}, /* malformed, too large, not understood: */
    {ALERT_FAULT_NONE, ON_HTTP, 413, 413, ALERT_CLASS_REJECTED}, /* another message may pass */
    {ALERT_FAULT_NONE, ON_HTTP, 422, 422, ALERT_CLASS_REJECTED},
    {ALERT_FAULT_NONE, ON_HTTP, 400, 499, ALERT_CLASS_REFUSED},
    {ALERT_FAULT_NONE, ON_HTTP, 0, 999, ALERT_CLASS_AGAIN},

    {ALERT_FAULT_NONE, ON_SMTP, 200, 299, ALERT_CLASS_ACCEPTED},
    {ALERT_FAULT_NONE, ON_SMTP, 552, 552, ALERT_CLASS_REJECTED}, /* too large */
    {ALERT_FAULT_NONE, ON_SMTP, 554, 554, ALERT_CLASS_REJECTED}, /* contents refused */
    {ALERT_FAULT_NONE, ON_SMTP, 500, 599, ALERT_CLASS_REFUSED},
    {ALERT_FAULT_NONE, ON_SMTP, 0, 999, ALERT_CLASS_AGAIN},

    {ALERT_FAULT_NONE, ON_HAND, 0, 0, ALERT_CLASS_ACCEPTED},
    {ALERT_FAULT_NONE, ON_HAND, 400, 499, ALERT_CLASS_REJECTED}, /* this message is too large, ... */
    {ALERT_FAULT_NONE, ON_HAND, 0, 999, ALERT_CLASS_AGAIN},

    {ALERT_FAULT_NONE, ON_EXEC, 0, 0, ALERT_CLASS_ACCEPTED},
    {ALERT_FAULT_NONE, ON_EXEC, 75, 75, ALERT_CLASS_AGAIN}, /* EX_TEMPFAIL of sysexits.h */
    {ALERT_FAULT_NONE, ON_EXEC, 0, 999, ALERT_CLASS_REJECTED},

    {ALERT_FAULT_LOGIN, ON_SMTP, 400, 499, ALERT_CLASS_AGAIN}, /* "temporary authentication failure" */
    {ALERT_FAULT_LOGIN, ON_ALL, 0, 999, ALERT_CLASS_REFUSED},

    {ALERT_FAULT_RESOLVE, ON_ALL, 0, 999, ALERT_CLASS_QUICK},
    {ALERT_FAULT_CONNECT, ON_ALL, 0, 999, ALERT_CLASS_QUICK},
    {ALERT_FAULT_TLS, ON_ALL, 0, 999, ALERT_CLASS_QUICK},
    {ALERT_FAULT_TIMEOUT, ON_ALL, 0, 999, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_CUT, ON_ALL, 0, 999, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_ANSWER, ON_ALL, 0, 999, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_OTHER, ON_ALL, 0, 999, ALERT_CLASS_AGAIN},
    {ALERT_FAULT_SETTINGS, ON_ALL, 0, 999, ALERT_CLASS_REFUSED},
    {ALERT_FAULT_DISK, ON_ALL, 0, 999, ALERT_CLASS_REFUSED},
    {ALERT_FAULT_LATE, ON_ALL, 0, 999, ALERT_CLASS_PASSED},
    {ALERT_FAULT_SKIPPED, ON_ALL, 0, 999, ALERT_CLASS_PASSED},
    {ALERT_FAULT_OVERFLOW, ON_ALL, 0, 999, ALERT_CLASS_OVERFLOW},
};

enum alert_class alert_classify(enum alert_proto proto, const struct alert_outcome *o)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].fault == o->fault && (rows[i].protos & (1u << proto)) && o->status >= rows[i].status_min &&
            o->status <= rows[i].status_max)
            return rows[i].class;
    return ALERT_CLASS_AGAIN; /* a status beyond three digits: no protocol has it */
}

const char *alert_fault_text(enum alert_fault f)
{
    static const char *const text[ALERT_FAULTS] = {
        [ALERT_FAULT_NONE] = "answered",
        [ALERT_FAULT_RESOLVE] = "name not found",
        [ALERT_FAULT_CONNECT] = "cannot connect",
        [ALERT_FAULT_TLS] = "no trusted connection",
        [ALERT_FAULT_TIMEOUT] = "timed out",
        [ALERT_FAULT_CUT] = "cut in the middle",
        [ALERT_FAULT_ANSWER] = "not an answer",
        [ALERT_FAULT_LOGIN] = "login refused",
        [ALERT_FAULT_SETTINGS] = "wrong settings",
        [ALERT_FAULT_DISK] = "cannot write",
        [ALERT_FAULT_LATE] = "no turn in time",
        [ALERT_FAULT_SKIPPED] = "skipped, the channel is broken",
        [ALERT_FAULT_OVERFLOW] = "more than the channel takes now",
        [ALERT_FAULT_OTHER] = "failed",
    };
    return (unsigned)f < ALERT_FAULTS ? text[f] : "?";
}
