/* alert_circuit.c - is a channel working? */
#include "alert/alert_circuit.h"

static const char *const names[] = {
    [ALERT_CIRCUIT_OK] = "OK", [ALERT_CIRCUIT_SUSPECT] = "SUSPECT", [ALERT_CIRCUIT_BROKEN] = "BROKEN"};
#define B(s) SM_BIT(ALERT_CIRCUIT_##s)
static const uint32_t allowed[] = {
    [ALERT_CIRCUIT_OK] = B(SUSPECT) | B(BROKEN),
    [ALERT_CIRCUIT_SUSPECT] = B(OK) | B(BROKEN),
    [ALERT_CIRCUIT_BROKEN] = B(OK),
};
const struct sm_table alert_circuit_table = {
    .name = "channel", .n = ALERT_CIRCUIT_BROKEN + 1, .state_names = names, .allowed = allowed};

bool alert_circuit_admit(struct alert_circuit *c, int64_t now_ms)
{
    if (c->state != ALERT_CIRCUIT_BROKEN)
        return true;
    if (now_ms < c->probe_ms)
        return false;
    c->probe_ms = now_ms + ALERT_PROBE_MS;
    return true;
}

enum alert_circuit_news alert_circuit_told(struct alert_circuit *c, enum alert_class class,
                                           const struct alert_outcome *o, bool record, int64_t now_ms)
{
    int was = c->state;
    if (class == ALERT_CLASS_ACCEPTED) {
        if (was == ALERT_CIRCUIT_OK)
            return ALERT_CIRCUIT_SILENT;
        sm_move(&alert_circuit_table, &c->state, ALERT_CIRCUIT_OK);
        return ALERT_CIRCUIT_RESOLVE;
    }
    if (o->fault == ALERT_FAULT_SKIPPED || class == ALERT_CLASS_OVERFLOW)
        return ALERT_CIRCUIT_SILENT;
    bool slow = o->fault == ALERT_FAULT_TIMEOUT || o->fault == ALERT_FAULT_LATE;
    bool suspect_only = record ? !slow : class == ALERT_CLASS_REJECTED;
    if (suspect_only) {
        if (was != ALERT_CIRCUIT_OK)
            return ALERT_CIRCUIT_SILENT;
        sm_move(&alert_circuit_table, &c->state, ALERT_CIRCUIT_SUSPECT);
        return ALERT_CIRCUIT_RAISE;
    }
    int64_t probe_ms = now_ms + (o->retry_after_ms > ALERT_PROBE_MS ? o->retry_after_ms : ALERT_PROBE_MS);
    if (probe_ms > c->probe_ms)
        c->probe_ms = probe_ms;
    if (was == ALERT_CIRCUIT_BROKEN)
        return ALERT_CIRCUIT_SILENT;
    sm_move(&alert_circuit_table, &c->state, ALERT_CIRCUIT_BROKEN);
    return was == ALERT_CIRCUIT_OK ? ALERT_CIRCUIT_RAISE : ALERT_CIRCUIT_SILENT;
}

void alert_circuit_recall(struct alert_circuit *c)
{
    if (c->state == ALERT_CIRCUIT_OK)
        sm_move(&alert_circuit_table, &c->state, ALERT_CIRCUIT_SUSPECT);
}
