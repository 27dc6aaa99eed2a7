/* fallback_baseline.c - the security baseline as fallback sees it: which one an override stands for, and whether it can be trusted. */
#include "common/log.h"
#include "fallback/fallback_shell.h"
#include <string.h>

#define ALERT_KEY "fallback/baseline"

static bool configured(const struct shell *sh)
{
    return sh->s->settings->baseline.path && *sh->s->settings->baseline.path;
}

static void alert(struct shell *sh, bool resolved)
{
    const struct baseline *b = sh->fx.baseline;
    PB(Alert) a = PB_INIT(ALERT);
    a.dedup_key = (char *)ALERT_KEY;
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL;
    a.summary =
        (char *)(resolved ? "the security baseline is trusted again"
                          : "the security baseline is not trusted: the strict built-in holds, which allows no "
                            "action");
    a.detail = resolved ? b->version : (char *)b->error;
    a.resolved = resolved;
    a.manual_intervention_required = !resolved;
    service_alert(sh->s, &a);
    sh->fx.untrusted_alert = !resolved;
}

static void load(struct shell *sh)
{
    struct baseline *was = sh->fx.baseline, *b = baseline_load(&sh->s->settings->baseline);
    bool news = !was || was->trusted != b->trusted || strcmp(was->sha256, b->sha256) != 0 ||
                strcmp(was->error, b->error) != 0;
    sh->fx.baseline = b;
    baseline_free(was);
    if (!configured(sh)) {
        if (sh->fx.untrusted_alert)
            alert(sh, true);
        return; /* none is wanted here: the guard says so where actions come */
    }
    if (news && b->trusted)
        log_info("security baseline", F_STR("version", b->version), F_STR("sha256", b->sha256),
                 F_STR("signed_off_by", b->signed_by));
    else if (news)
        log_error("the security baseline is not trusted: the strict built-in holds", F_STR("why", b->error));
    if (b->trusted == sh->fx.untrusted_alert)
        alert(sh, b->trusted);
}

static void on_look(void *ctx)
{
    struct shell *sh = ctx;
    if (baseline_stale(sh->fx.baseline, &sh->s->settings->baseline))
        load(sh);
}

void baseline_watch_reload(struct shell *sh)
{
    load(sh);
    loop_timer_start(&sh->fx.look, sh->s->settings->baseline.check_ms, sh->s->settings->baseline.check_ms);
}

void baseline_watch_open(struct shell *sh)
{
    loop_timer_init(&sh->s->loop, &sh->fx.look, on_look, sh);
    baseline_watch_reload(sh);
}

void baseline_say(const struct shell *sh, char *buf, size_t size)
{
    const struct baseline *b = sh->fx.baseline;
    if (!configured(sh))
        *buf = '\0';
    else if (b->trusted)
        snprintf(buf, size, "security baseline %.64s (sha256 %.12s)", b->version, b->sha256);
    else
        snprintf(buf, size, "the security baseline is NOT trusted (%.100s): the strict built-in holds", b->error);
}
