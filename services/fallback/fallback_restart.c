/* fallback_restart.c - the executor: runs the command of the settings that restarts an agent.
 *
 * In the trail first; without a trail it is not run. No shell, an environment of four names, nothing of ours open in it, a process
 * group of its own (common/program.h). What it writes goes to the log and the trail, its last lines at least. In time it ends by itself or its whole group is
 * killed. The decider learns of the end under the restart's id, so a result that comes after the lease was lost means nothing to it. */
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/program.h"
#include "fallback/fallback_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(runs, METRIC_COUNTER, "redoubt_fallback_restarts_total", "Restarts of agents by the executor.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_fallback_restart_failures_total",
              "Restarts that ended with an error, or not in time.");

#define TAIL_MAX 1000 /* bytes of its output that are kept: the last */

struct restart {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    char id[FALLBACK_KEY_TEXT];
    char **argv;
    int64_t timeout_ms;
    uint64_t epoch;
    struct program *program; /* NULL: not yet, or not any more */
    char why[200];           /* why it was not even begun */
    struct restart *next;
};

#define OUTCOME(x) REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##x
#define CLASS(x)   REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_##x

static void audit(const struct restart *r, int outcome, int audit_class, const char *detail, outbox_cb done,
                  void *ctx)
{
    const struct effects_record m = {.action = "agent.restart",
                                     .agent = r->agent,
                                     .epoch = r->epoch,
                                     .key = {"restart", "program"},
                                     .value = {r->id, r->argv[0]}};
    effects_audit(r->s, &m, outcome, audit_class, detail, done, ctx);
}

static void restart_free(struct restart *r)
{
    for (size_t i = 0; r->argv && r->argv[i]; i++)
        free(r->argv[i]);
    free(r->argv);
    free(r);
}

/* Out of the service's list and the agent's hand; tells the decider if it still wants to know. */
static void tell(struct restart *r, bool ok, const char *detail)
{
    struct shell *sh = r->s->state;
    struct agent *a = sh ? shell_agent(sh, r->agent) : NULL;
    for (struct restart **at = sh ? &sh->fx.restarts : NULL; at && *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    if (!a || a->fx.restart != r)
        return;
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = !ok};
    a->fx.restart = NULL;
    snprintf(ev.key, sizeof ev.key, "%s", r->id);
    snprintf(ev.detail, sizeof ev.detail, "%s", detail);
    if (agent_decided(a))
        agent_event(a, &ev, NULL);
}

/* ---- the way ---- */

/* The last TAIL_MAX bytes, from the begin of a character on. */
static const char *last_of(const char *text)
{
    size_t n = strlen(text);
    if (n <= TAIL_MAX)
        return text;
    text += n - TAIL_MAX;
    while (((unsigned char)*text & 0xc0) == 0x80)
        text++;
    return text;
}

static void on_done(void *ctx, const struct program_result *p)
{
    struct restart *r = ctx;
    char detail[FALLBACK_WHY_TEXT], what[300];
    bool ok = p->end == PROGRAM_EXITED && p->code == 0;
    r->program = NULL;
    if (p->end == PROGRAM_NOT_STARTED)
        snprintf(what, sizeof what, "not started: %s", p->text);
    else if (p->end == PROGRAM_TIMEOUT)
        snprintf(what, sizeof what, "killed, since it had not ended after %" PRId64 " ms", r->timeout_ms);
    else if (p->end == PROGRAM_SIGNALLED)
        snprintf(what, sizeof what, "ended by signal %d after %" PRId64 " ms", p->code, p->took_ms);
    else
        snprintf(what, sizeof what, "exit status %d after %" PRId64 " ms", p->code, p->took_ms);
    const char *last = last_of(p->err);
    snprintf(detail, sizeof detail, "%s%s%s", what, *last ? ": " : "", last);
    if (p->end != PROGRAM_NOT_STARTED)
        metric_add(&runs, 1);
    if (ok)
        log_info("agent restarted", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("detail", detail));
    else
        log_error("restart failed", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("program", r->argv[0]),
                  F_STR("why", detail));
    if (!ok)
        metric_add(&failures, 1);
    if (r->s->state)
        audit(r, ok ? OUTCOME(DONE) : OUTCOME(FAILED), CLASS(STRICT), detail, NULL, NULL);
    tell(r, ok, detail);
    restart_free(r);
}

static void run(struct restart *r)
{
    char agent[NAME_MAX_LEN + 32], id[FALLBACK_KEY_TEXT + 32];
    snprintf(agent, sizeof agent, "REDOUBT_AGENT=%s", r->agent);
    snprintf(id, sizeof id, "REDOUBT_RESTART_ID=%s", r->id);
    struct program_opts o = {.argv = (const char *const *)r->argv,
                             .env = (const char *const[]){agent, id, NULL},
                             .timeout_ms = r->timeout_ms,
                             .merge = true,
                             .leave = true};
    r->program = program_run(&r->s->loop, &o, on_done, r);
    if (!r->program)
        abort(); /* the decider waits for its end */
    if (program_pid(r->program))
        log_warn("restarting an agent", F_STR("agent", r->agent), F_STR("id", r->id), F_STR("program", r->argv[0]),
                 F_INT("pid", program_pid(r->program)));
}

static void on_audited(void *ctx, int status, const char *error)
{
    struct restart *r = ctx;
    struct shell *sh = r->s->state;
    struct agent *a = sh ? shell_agent(sh, r->agent) : NULL;
    char detail[300] = "";
    if (!a || a->fx.restart != r)
        snprintf(detail, sizeof detail, "the service ends, or the agent left the settings");
    else if (!agent_decided(a) || strcmp(a->f.doc.restart_id, r->id) != 0)
        snprintf(detail, sizeof detail, "it is not asked for any more");
    else if (status != 0)
        snprintf(detail, sizeof detail, "not run, since the audit trail cannot be written: %.200s", error);
    if (!*detail) {
        run(r);
        return;
    }
    if (sh)
        audit(r, OUTCOME(REFUSED), CLASS(CONTINUITY), detail, NULL, NULL);
    tell(r, false, detail);
    restart_free(r);
}

static char **copy_command(const struct conf_list *command)
{
    char **argv = calloc(command->n + 1, sizeof *argv);
    for (size_t i = 0; argv && i < command->n; i++)
        if (!(argv[i] = strdup(*CONF_AT(*command, char *, i))))
            abort();
    if (!argv)
        abort(); /* the decider waits for the end */
    return argv;
}

/* It was not even begun: the decider learns so, later, since it is in the middle of carrying out. */
static void on_refused(void *ctx)
{
    struct restart *r = ctx;
    struct agent *a = r->s->state ? shell_agent(r->s->state, r->agent) : NULL;
    struct fallback_event ev = {.kind = FALLBACK_RESTARTED, .failed = true};
    snprintf(ev.key, sizeof ev.key, "%s", r->id);
    snprintf(ev.detail, sizeof ev.detail, "%s", r->why);
    if (a && agent_decided(a))
        agent_event(a, &ev, NULL);
    restart_free(r);
}

void restart_start(struct agent *a, const struct fallback_effect *e)
{
    const struct set_restart *set = &a->set->resources.restart;
    if (a->fx.restart && strcmp(a->fx.restart->id, e->key) == 0)
        return; /* under way */
    struct restart *r = calloc(1, sizeof *r);
    if (!r)
        abort(); /* the decider waits for its end */
    r->s = a->sh->s;
    r->epoch = a->f.doc.epoch;
    r->timeout_ms = set->timeout_ms;
    r->argv = copy_command(&set->command);
    snprintf(r->agent, sizeof r->agent, "%s", a->name);
    snprintf(r->id, sizeof r->id, "%s", e->key);
    if (!r->argv[0] || a->fx.restart) {
        snprintf(r->why, sizeof r->why, "%s",
                 a->fx.restart ? "an earlier restart has not ended yet" : "no command is set");
        loop_defer(&a->sh->s->loop, on_refused, r);
        return;
    }
    r->next = a->sh->fx.restarts;
    a->sh->fx.restarts = r;
    a->fx.restart = r;
    audit(r, OUTCOME(INTENDED), CLASS(STRICT), a->f.doc.reason, on_audited, r);
}

/* The service ends; what runs goes on by itself, and whoever acts for the agent next takes its end for unknown. */
void restarts_close(struct shell *sh)
{
    for (struct restart *r = sh->fx.restarts, *next; r; r = next) {
        next = r->next;
        if (r->program) {
            program_drop(r->program, false);
            restart_free(r);
        } /* else its record is under way, whose end frees it */
    }
    sh->fx.restarts = NULL;
}
