/* fallback_effects.c - the hooks by which the shell's life reaches its further effects. */
#include "fallback/fallback_effects.h"
#include "fallback/fallback_shell.h"
#include <stdlib.h>

void effects_open(struct shell *sh)
{
    sh->fx.wave_at_ms = INT64_MAX;
    loop_timer_init(&sh->s->loop, &sh->fx.wave, wave_on_due, sh);
    baseline_watch_open(sh);
    wave_limits(sh);
}

void effects_reload(struct shell *sh)
{
    wave_limits(sh);
    baseline_watch_reload(sh);
}

void effects_tick(struct shell *sh, int64_t now_mono_ms)
{
    wave_tick(sh);
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        if (a->place == HERE)
            monitor_tick(a, now_mono_ms);
    }
}

void effects_close(struct shell *sh)
{
    restarts_close(sh);
    loop_timer_close(&sh->fx.wave, NULL);
    loop_timer_close(&sh->fx.look, NULL);
}

void effects_free(struct shell *sh)
{
    baseline_free(sh->fx.baseline);
}

void effects_forget(struct agent *a)
{
    fence_drop(a);
    wave_count(a, NULL);
    intake_leave(&a->fx.place);
    a->fx.monitor.due_mono_ms = 0;
    a->fx.monitor.told = 0;
    a->fx.rolling[0] = '\0';
}

void effects_agent_free(struct agent *a)
{
    effects_forget(a);
    free(a->fx.unfit);
}

void effects_audit(struct service *s, const struct effects_record *r, int outcome, int audit_class,
                   const char *detail, outbox_cb done, void *ctx)
{
    PB(Label) labels[2] = {PB_INIT(LABEL), PB_INIT(LABEL)};
    PB(Label) * fields[] = {&labels[0], &labels[1]};
    for (size_t i = 0; i < 2; i++) {
        labels[i].key = (char *)r->key[i];
        labels[i].value = (char *)r->value[i];
    }
    PB(AuditRecord) m = PB_INIT(AUDIT_RECORD);
    m.action = (char *)r->action;
    m.subject = (char *)r->agent;
    m.outcome = (Redoubt__V1__AuditOutcome)outcome;
    m.audit_class = (Redoubt__V1__AuditClass)audit_class;
    m.epoch = r->epoch;
    m.detail = (char *)detail;
    m.fields = fields;
    m.n_fields = 2;
    service_audit(s, &m, done, ctx);
}
