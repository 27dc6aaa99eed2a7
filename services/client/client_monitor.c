/* client_monitor.c - basic monitoring: the agent looks when it is time, its report goes out when it can. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/utf8.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKS_MAX 64
#define NAME_MAX_  64
#define DETAIL_MAX 256
#define GIVE_UP_MS 30000 /* the next one says more */

METRIC_DEFINE(looked, METRIC_COUNTER, "redoubt_client_monitor_reports_total", "Times that the agent has looked.");
METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_client_monitor_bad_total", "Checks that the contract would not take.");

struct redoubt_monitor {
    size_t n;
    PB(MonitorCheck) at[CHECKS_MAX];
    PB(MonitorCheck) * list[CHECKS_MAX];
    char name[CHECKS_MAX][NAME_MAX_ + 1], detail[CHECKS_MAX][DETAIL_MAX + 1];
};

int redoubt_monitor_check(redoubt_monitor *m, const char *name, bool ok, const char *detail)
{
    size_t name_len = name ? strnlen(name, NAME_MAX_ + 1) : 0;
    size_t len = detail ? strnlen(detail, DETAIL_MAX) : 0;
    if (m->n == CHECKS_MAX || name_len == 0 || name_len > NAME_MAX_ || utf8_valid_until(name, name_len) != name_len) {
        metric_add(&bad, 1);
        return -1;
    }
    size_t i = m->n++;
    memcpy(m->name[i], name, name_len + 1);
    memcpy(m->detail[i], detail ? detail : "", utf8_valid_until(detail ? detail : "", len));
    m->at[i] = (PB(MonitorCheck))REDOUBT__V1__MONITOR_CHECK__INIT;
    m->at[i].name = m->name[i];
    m->at[i].detail = m->detail[i];
    m->at[i].ok = ok;
    m->list[i] = &m->at[i];
    return 0;
}

void client_monitor_flush(redoubt *r)
{
    struct client_monitoring *o = &r->monitoring;
    char subject[SUBJECT_MAX_LEN], id[160];
    if (!o->kept)
        return;
    snprintf(subject, sizeof subject, SUBJECT_MONITOR "%s", r->agent);
    snprintf(id, sizeof id, "monitor/%s/%s-%" PRIu64, r->agent, r->boot, o->reports);
    bus_store(
        r->bus,
        &(struct bus_out){
            .subject = subject, .id = id, .type = "redoubt.v1.MonitorReport", .data = o->kept, .len = o->kept_len},
        GIVE_UP_MS, NULL, NULL);
    free(o->kept);
    o->kept = NULL;
}

static void look(void *ctx)
{
    redoubt *r = ctx;
    struct client_monitoring *o = &r->monitoring;
    struct redoubt_monitor *m = calloc(1, sizeof *m);
    if (!m)
        return; /* the next time perhaps */
    r->o.on_monitor(r->o.ctx, m);
    metric_add(&looked, 1);
    PB(MonitorReport) report = REDOUBT__V1__MONITOR_REPORT__INIT;
    report.agent = r->agent;
    report.instance = r->instance;
    report.epoch = atomic_load(&r->epoch);
    report.checks = m->list;
    report.n_checks = m->n;
    report.seen_unix_ms = clock_wall_ms();
    report.by_agent = true;
    size_t len;
    void *data = wire_pack(&report, &len, NULL);
    if (data) { /* the newest is the one that counts */
        free(o->kept);
        o->kept = data;
        o->kept_len = len;
        o->reports++;
    }
    free(m);
    if (r->gate.up)
        client_monitor_flush(r);
}

void client_monitor_init(redoubt *r)
{
    loop_timer_init(&r->loop, &r->monitoring.timer, look, r);
}

void client_monitor_every(redoubt *r, uint32_t interval_ms)
{
    struct client_monitoring *o = &r->monitoring;
    if (!r->o.on_monitor || interval_ms == o->interval_ms)
        return; /* a directive that leaves it as it is neither hurries nor delays it */
    o->interval_ms = interval_ms;
    if (interval_ms)
        loop_timer_start(&o->timer, 1, interval_ms);
    else
        loop_timer_stop(&o->timer);
}

void client_monitor_stop(redoubt *r)
{
    loop_timer_stop(&r->monitoring.timer);
}

void client_monitor_done(redoubt *r)
{
    free(r->monitoring.kept);
    r->monitoring.kept = NULL;
}
