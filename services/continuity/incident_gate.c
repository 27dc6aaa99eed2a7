/* incident_gate.c - what an incident's phase waits for, one line for people. Pure. */
#include "continuity/incident_impl.h"
#include "continuity/objective.h"
#include <stdio.h>

static void left(int64_t ms, char buf[static OBJECTIVE_TEXT])
{
    objective_text(ms > 0 ? ms : 0, buf);
}

static void validate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms, char *buf,
                     size_t size)
{
    char wait[OBJECTIVE_TEXT];
    left(x->entered_ms + rule->validate_ms - now_ms, wait);
    if (x->checked == INCIDENT_CHECK_FAILED)
        snprintf(buf, size, "a check must pass: %s", x->failed ? x->failed : "it has failed");
    else if (x->checked == INCIDENT_UNCHECKED)
        snprintf(buf, size, "the checks must pass, and everything stay well for another %s", wait);
    else
        snprintf(buf, size, "everything must stay well for another %s", wait);
}

const char *incident_gate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms, char *buf,
                          size_t size)
{
    char wait[OBJECTIVE_TEXT];
    switch (x->phase) {
    case P(RESPOND):
        snprintf(buf, size, "a channel must accept its alert, or a person take it up");
        break;
    case P(ASSESS):
        left(x->last_joined_ms + rule->settle_ms - now_ms, wait);
        snprintf(buf, size, "nothing new must join for another %s", wait);
        break;
    case P(RECOVER):
        snprintf(buf, size, "%u %s must clear%s", x->open_signals, x->open_signals == 1 ? "condition" : "conditions",
                 x->data_affected ? ", and the data be whole again" : "");
        break;
    case P(VALIDATE):
        validate(x, rule, now_ms, buf, size);
        break;
    case P(LEARN):
        if (!x->reported || x->report_due)
            snprintf(buf, size, "its report must be written");
        else if (x->severity <= rule->closes_itself)
            snprintf(buf, size, "nothing: it closes by itself");
        else
            snprintf(buf, size, "a person must write down lessons and close it");
        break;
    case P(CLOSED):
        snprintf(buf, size, "nothing: it is closed");
        break;
    default:
        snprintf(buf, size, "evidence");
    }
    return buf;
}
