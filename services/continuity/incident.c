/* incident.c - one incident's policy. Pure; see incident.h. */
#include "continuity/incident.h"
#include <stdio.h>

const struct sm_table incident_sm = {
    .name = "incident",
    .n = INCIDENT_PHASE(CLOSED) + 1,
    .state_names = (const char *const[INCIDENT_PHASE(CLOSED) + 1]){NULL},
    .allowed = (const uint32_t[INCIDENT_PHASE(CLOSED) + 1]){0},
};
int64_t incident_clock_elapsed(const struct incident_clock *c, int64_t now_ms)
{
    return c->started ? (c->stopped ? c->stopped_ms : now_ms) - c->started_ms : 0;
}
unsigned incident_clock_reached(const struct incident_clock *c, int64_t now_ms)
{
    (void)c, (void)now_ms;
    return 0;
}
int64_t incident_clock_next(const struct incident_clock *c, int64_t now_ms)
{
    (void)c, (void)now_ms;
    return INT64_MAX;
}
void incident_room(struct incident *x, void (*drop)(void *ctx, const char *text), void *ctx)
{
    (void)x, (void)drop, (void)ctx;
}
bool incident_takes(const struct incident *x)
{
    return x->phase != 0 && x->phase <= INCIDENT_PHASE(VALIDATE);
}
const char *incident_broken(const struct incident *x)
{
    (void)x;
    return NULL;
}
size_t incident_decide(struct incident *x, const struct incident_rule *rule, const struct incident_event *ev,
                       int64_t now_ms, struct incident_effect out[static INCIDENT_EFFECTS])
{
    (void)x, (void)rule, (void)ev, (void)now_ms, (void)out;
    return 0;
}
const char *incident_gate(const struct incident *x, const struct incident_rule *rule, int64_t now_ms, char *buf,
                          size_t size)
{
    (void)x, (void)rule, (void)now_ms;
    snprintf(buf, size, "?");
    return buf;
}
void incident_rule_of(const struct set_continuity *set, struct incident_rule *ret)
{
    (void)set;
    *ret = (struct incident_rule){0};
}
int incident_nearest(const struct incident *x, int64_t now_ms);
int incident_nearest(const struct incident *x, int64_t now_ms)
{
    (void)x, (void)now_ms;
    return -1;
}
