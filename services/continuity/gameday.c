/* gameday.c - drills on a schedule: starts them one at a time, ends what takes too long, and keeps what they have shown.
 *
 * A drill is the program `redoubt drill`, which ends its whole stack by itself when it is told to end. */
#include "common/log.h"
#include "common/program.h"
#include "continuity/continuity_shell.h"
#include "continuity/gameday_plan.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_MAX      (1u << 20)
#define EXIT_REFUSED 4 /* of redoubt: the suite says no */
#define DRILLS_MAX   32
#define REPLY_TEXT   256

extern char **environ;

/* DrillState.open_alerts */
enum { ALERT_FAILED = 1, ALERT_SKIPPED = 2, ALERT_GONE = 4, ALERT_PROGRAM = 8 };
static const struct {
    const char *what, *summary, *over;
} alerts[] = {{"failed", "a drill has failed", "the drill passes again"},
              {"skipped", "a drill was skipped again and again", "the drill is played again"},
              {"agent", "the agent of a drill is gone", "the drill has its agent again"},
              {"program", "drills cannot be played", "drills can be played again"}};

struct day {
    char name[65], result[513];
    PB(DrillState) state; /* name and result are the texts above */
    unsigned skips;       /* in a row */
    uint64_t revision;
    int64_t every_ms; /* as it was planned */
    char at[17];
};
struct run {
    struct program *program;
    char name[65], story[32], by[129];
    int64_t limit_ms; /* continuity time: then it is told to end */
    bool told;
};
struct gamedays {
    struct continuity *c;
    struct day days[DRILLS_MAX];
    size_t n;
    struct run run; /* program NULL = none */
    struct start *start;
    char path[1024]; /* of redoubt; "" = there is none */
};
/* A person's order, on its way into the trail. */
struct start {
    struct gamedays *g; /* NULL = closed meanwhile */
    char name[65], by[129], reply[REPLY_TEXT];
};

/* ---- what is known ---- */

static const struct set_drill *set_of(const struct gamedays *g, const char *name)
{
    const struct set_continuity *set = continuity_set(g->c);
    for (size_t i = 0; i < set->drills.n; i++)
        if (strcmp(CONF_AT(set->drills, struct set_drill, i)->name, name) == 0)
            return CONF_AT(set->drills, struct set_drill, i);
    return NULL;
}

static struct day *find(struct gamedays *g, const char *name)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->days[i].name, name) == 0)
            return &g->days[i];
    return NULL;
}

/* Planned anew if its time has changed, or if it was not known. */
static void add(struct gamedays *g, const struct set_drill *set)
{
    struct day *d = find(g, set->name);
    if (!d && g->n == DRILLS_MAX)
        return;
    if (!d) {
        PB(DrillState) init = PB_INIT(DRILL_STATE);
        d = &g->days[g->n++];
        *d = (struct day){.state = init};
        snprintf(d->name, sizeof d->name, "%s", set->name);
    }
    if (d->every_ms != set->every_ms || strcmp(d->at, set->at) != 0)
        d->state.next_unix_ms = 0;
    d->every_ms = set->every_ms;
    snprintf(d->at, sizeof d->at, "%s", set->at);
}

static void announce(struct gamedays *g, struct day *d)
{
    char subject[SUBJECT_MAX_LEN];
    uint64_t now = (uint64_t)continuity_now_ms(g->c);
    d->state.name = d->name;
    d->state.result = d->result;
    d->state.fence = continuity_fence(g->c);
    d->revision = now > d->revision ? now : d->revision + 1;
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_CONTINUITY_DRILL, d->name);
    continuity_announce(g->c, subject, d->revision, &d->state);
}

/* Raised or over, once each; the caller announces. */
static void alert(struct gamedays *g, struct day *d, unsigned bit, bool on, const char *detail)
{
    const struct set_drill *set = set_of(g, d->name);
    size_t i = bit == ALERT_FAILED ? 0 : bit == ALERT_SKIPPED ? 1 : bit == ALERT_GONE ? 2 : 3;
    char what[128], summary[256];
    if (on == ((d->state.open_alerts & bit) != 0))
        return;
    d->state.open_alerts ^= bit;
    snprintf(what, sizeof what, "drill/%s/%s", d->name, alerts[i].what);
    snprintf(summary, sizeof summary, "%s: %s", d->name, on ? alerts[i].summary : alerts[i].over);
    continuity_alert(g->c, what,
                     bit == ALERT_FAILED ? REDOUBT__V1__SEVERITY__SEVERITY_HIGH
                                         : REDOUBT__V1__SEVERITY__SEVERITY_WARNING,
                     !on, set ? set->agent : "", summary, detail);
}

static void find_program(struct gamedays *g)
{
    char self[900] = "", why[300];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    const char *const dirs[] = {self, "/usr/local/bin", "/usr/bin"};
    g->path[0] = '\0';
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0] && !*g->path; i++) {
        snprintf(g->path, sizeof g->path, "%s/redoubt", dirs[i]);
        if (!*dirs[i] || access(g->path, X_OK) || !program_ok(g->path, why, sizeof why))
            g->path[0] = '\0';
    }
}

/* ---- the end of one ---- */

static void plan_next(struct gamedays *g, struct day *d)
{
    const struct set_drill *set = set_of(g, d->name);
    int64_t now = continuity_now_ms(g->c);
    if (set)
        d->state.next_unix_ms = gameday_next(set, d->state.began_unix_ms, now);
}

static void skipped(struct gamedays *g, struct day *d, const char *why)
{
    d->skips++;
    snprintf(d->result, sizeof d->result, "skipped: %s", why);
    log_warn("a drill was skipped", F_STR("drill", d->name), F_STR("why", why));
    continuity_record(g->c, "drill.ended", "continuity", d->name, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_REFUSED,
                      d->result);
    if (d->skips >= GAMEDAY_SKIPS)
        alert(g, d, ALERT_SKIPPED, true, d->result);
    plan_next(g, d);
    if (d->state.next_unix_ms <= continuity_now_ms(g->c))
        d->state.next_unix_ms = gameday_next(set_of(g, d->name), 0, continuity_now_ms(g->c));
    announce(g, d);
}

static void show(struct gamedays *g, const struct day *d, const struct gameday_result *r)
{
    const struct set_drill *set = set_of(g, d->name);
    char by[129];
    snprintf(by, sizeof by, "drill %s", d->name);
    for (size_t i = 0; i < SET_OBJECTIVES; i++)
        if (r->shown[i])
            continuity_demonstrated(g->c, (enum set_objective)i, set ? set->agent : "", r->ms[i], by);
}

static void ended(struct gamedays *g, struct day *d, const struct gameday_result *r)
{
    bool ours = strcmp(g->run.name, d->name) == 0 && *g->run.by;
    d->state.running = false;
    d->state.ended_unix_ms = continuity_now_ms(g->c);
    d->state.passed = r->passed;
    d->state.failures = r->passed ? 0 : d->state.failures + 1;
    d->skips = 0;
    snprintf(d->result, sizeof d->result, "%s%s", r->passed ? "passed" : "failed: ", r->passed ? "" : r->why);
    log_info("a drill has ended", F_STR("drill", d->name), F_STR("result", d->result));
    continuity_record(g->c, "drill.ended", ours ? g->run.by : "continuity", d->name,
                      r->passed ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE
                                : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED,
                      d->result);
    alert(g, d, ALERT_FAILED, !r->passed, d->result);
    alert(g, d, ALERT_SKIPPED, false, "");
    if (r->passed)
        show(g, d, r);
    plan_next(g, d);
    announce(g, d);
}

static void on_done(void *ctx, const struct program_result *p)
{
    struct gamedays *g = ctx;
    struct day *d = find(g, g->run.name);
    struct gameday_result r;
    g->run.program = NULL;
    if (!d)
        return; /* taken out of the settings meanwhile */
    if (p->end == PROGRAM_EXITED && p->code == EXIT_REFUSED) {
        d->state.running = false;
        d->state.ended_unix_ms = continuity_now_ms(g->c);
        skipped(g, d, p->text);
        return;
    }
    gameday_result(g->run.story, p->out, p->out_len, continuity_set(g->c)->phases.validate_ms, &r);
    if (g->run.told) {
        r.passed = false;
        snprintf(r.why, sizeof r.why, "it took longer than its limit, and was ended");
    } else if (!r.valid || p->end != PROGRAM_EXITED || (r.passed && p->code != 0)) {
        r.passed = false;
        snprintf(r.why, sizeof r.why, "%s", p->text);
    }
    ended(g, d, &r);
}

/* ---- the start of one ---- */

/* What its settings refer to is in our environment; the way to programs is not taken from there. */
static const char **environment(void)
{
    size_t n = 0, k = 0;
    while (environ[n])
        n++;
    const char **e = calloc(n + 1, sizeof *e);
    for (size_t i = 0; e && i < n; i++)
        if (strncmp(environ[i], "PATH=", 5) != 0 && strncmp(environ[i], "LANG=", 5) != 0 &&
            strncmp(environ[i], "KEEP=", 5) != 0)
            e[k++] = environ[i];
    return e;
}

/* False: memory is out. */
static bool play(struct gamedays *g, struct day *d, const struct set_drill *set, const char *by)
{
    struct run *r = &g->run;
    char reason[128];
    const char *story = settings_drills[set->drill], **env = environment();
    snprintf(reason, sizeof reason, "game day %s", d->name);
    const char *const live[] = {
        g->path,    "drill",  story,        "--live",   "--target",
        set->agent, "--by",   "continuity", "--reason", reason,
        "--yes",    "--json", "-",          "-c",       service_config_path(continuity_service_of(g->c)),
        NULL};
    const char *const alone[] = {g->path, "drill", story, "--json", "-", NULL};
    const struct program_opts po = {.argv = *set->agent ? live : alone,
                                    .env = env,
                                    .timeout_ms = set->limit_ms + GAMEDAY_GRACE_MS,
                                    .max_output = OUT_MAX};
    *r = (struct run){.limit_ms = continuity_now_ms(g->c) + set->limit_ms};
    snprintf(r->name, sizeof r->name, "%s", d->name);
    snprintf(r->story, sizeof r->story, "%s", story);
    snprintf(r->by, sizeof r->by, "%s", by);
    r->program = env ? program_run(&continuity_service_of(g->c)->loop, &po, on_done, g) : NULL;
    free(env);
    if (!r->program)
        return false;
    d->state.running = true;
    d->state.began_unix_ms = continuity_now_ms(g->c);
    snprintf(d->result, sizeof d->result, "under way");
    plan_next(g, d);
    log_info("a drill begins", F_STR("drill", d->name), F_STR("story", story), F_STR("agent", set->agent));
    alert(g, d, ALERT_GONE, false, "");
    alert(g, d, ALERT_PROGRAM, false, "");
    announce(g, d);
    return true;
}

/* One of another leader, who is gone, counts until it must be over. */
static bool busy(const struct gamedays *g)
{
    bool is = g->run.program || g->start;
    for (size_t i = 0; i < g->n; i++)
        is = is || g->days[i].state.running;
    return is;
}

static struct gameday_facts facts_of(const struct gamedays *g, const struct day *d, const struct set_drill *set)
{
    const char *id;
    return (struct gameday_facts){.now_ms = continuity_now_ms(g->c),
                                  .next_ms = d->state.next_unix_ms,
                                  .at = *set->at != '\0',
                                  .incident = continuity_incident_open(g->c, &id),
                                  .busy = busy(g),
                                  .agent_gone = *set->agent &&
                                                !settings_agent(continuity_service_of(g->c)->settings, set->agent),
                                  .program = *g->path != '\0'};
}

/* It cannot be played until people change something: said once. */
static void cannot(struct gamedays *g, struct day *d, unsigned bit, const char *why)
{
    bool said = d->state.open_alerts & bit;
    snprintf(d->result, sizeof d->result, "not played: %s", why);
    alert(g, d, bit, true, why);
    d->state.next_unix_ms = gameday_next(set_of(g, d->name), 0, continuity_now_ms(g->c));
    if (!said)
        log_warn("a drill cannot be played", F_STR("drill", d->name), F_STR("why", why));
    announce(g, d);
}

static const char no_program[] =
    "the program redoubt is not beside this service's, nor in /usr/local/bin or /usr/bin";
static const char no_agent[] = "its agent is not in the settings any more: name another, or remove the drill";

static void consider(struct gamedays *g, struct day *d, const struct set_drill *set)
{
    const struct gameday_facts f = facts_of(g, d, set);
    const char *id = "";
    char why[128];
    switch (gameday_decide(&f)) {
    case GAMEDAY_PLAY:
        continuity_record(g->c, "drill.began", "continuity", d->name,
                          REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED, settings_drills[set->drill]);
        (void)play(g, d, set, "continuity");
        break;
    case GAMEDAY_INCIDENT:
        (void)continuity_incident_open(g->c, &id);
        snprintf(why, sizeof why, "incident %.64s is open", id ? id : "");
        skipped(g, d, why);
        break;
    case GAMEDAY_MISSED:
        skipped(g, d, "nobody was there at its time");
        break;
    case GAMEDAY_GONE:
        cannot(g, d, ALERT_GONE, no_agent);
        break;
    case GAMEDAY_NO_PROGRAM:
        cannot(g, d, ALERT_PROGRAM, no_program);
        break;
    case GAMEDAY_WAIT:
        break;
    }
}

/* Its leader is gone, and its time is over. */
static void give_up(struct gamedays *g, struct day *d, const struct set_drill *set, int64_t now_ms)
{
    struct gameday_result r = {.why = "the replica that played it is gone"};
    bool ours = g->run.program && strcmp(g->run.name, d->name) == 0;
    if (d->state.running && !ours && now_ms > d->state.began_unix_ms + set->limit_ms + GAMEDAY_GRACE_MS)
        ended(g, d, &r);
}

void gamedays_tick(struct gamedays *g, int64_t now_ms)
{
    struct run *r = &g->run;
    if (!continuity_leads(g->c))
        return;
    if (r->program && !r->told && now_ms >= r->limit_ms && program_pid(r->program) > 0) {
        r->told = true;
        log_warn("a drill takes longer than its limit, and is told to end", F_STR("drill", r->name));
        (void)kill(program_pid(r->program), SIGTERM);
    }
    for (size_t i = 0; i < g->n; i++) {
        struct day *d = &g->days[i];
        const struct set_drill *set = set_of(g, d->name);
        if (!set)
            continue;
        give_up(g, d, set, now_ms);
        if (d->state.next_unix_ms == 0) {
            plan_next(g, d);
            announce(g, d);
        }
        if (!d->state.running)
            consider(g, d, set);
    }
}

/* ---- now, by a person ---- */

static void on_recorded(void *ctx, int status, const char *error)
{
    struct start *s = ctx;
    struct gamedays *g = s->g;
    if (g) {
        struct service *v = continuity_service_of(g->c);
        struct day *d = find(g, s->name);
        const struct set_drill *set = set_of(g, s->name);
        g->start = NULL;
        if (status)
            service_reply(v, s->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "not played, since it could not be recorded: %s", error);
        else if (!d || !set || g->run.program || !continuity_leads(g->c) || !play(g, d, set, s->by))
            service_reply(v, s->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                          "not played: ask again in a moment");
        else
            service_reply(v, s->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK, 0,
                          "%s has begun; see `redoubt continuity status`", s->name);
    }
    free(s);
}

/* NULL = it may. */
static const char *refusal(struct gamedays *g, const PB(ContinuityCommand) * cmd, int *ret_status)
{
    struct day *d = find(g, cmd->name);
    const struct set_drill *set = set_of(g, cmd->name);
    *ret_status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID;
    if (!d || !set)
        return "there is no such drill in continuity.drills";
    if (!*cmd->by || !*cmd->reason)
        return "by and reason are required";
    struct gameday_facts f = facts_of(g, d, set);
    f.ordered = true;
    f.forced = cmd->force;
    *ret_status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE;
    switch (gameday_decide(&f)) {
    case GAMEDAY_PLAY:
        return NULL;
    case GAMEDAY_INCIDENT:
        return "an incident is open; --force if it is meant all the same";
    case GAMEDAY_GONE:
        return no_agent;
    case GAMEDAY_NO_PROGRAM:
        return no_program;
    default:
        return "a drill is under way";
    }
}

void gamedays_command(struct gamedays *g, const PB(ContinuityCommand) * cmd, const char *reply)
{
    int status;
    const char *why = refusal(g, cmd, &status);
    char detail[1200];
    struct start *s = why ? NULL : calloc(1, sizeof *s);
    if (!s) {
        service_reply(continuity_service_of(g->c), reply, status, 0, "%s", why ? why : "out of memory");
        return;
    }
    s->g = g;
    snprintf(s->name, sizeof s->name, "%s", cmd->name);
    snprintf(s->by, sizeof s->by, "%s", cmd->by);
    snprintf(s->reply, sizeof s->reply, "%s", reply);
    snprintf(detail, sizeof detail, "%s%s", cmd->reason, cmd->force ? " (forced)" : "");
    g->start = s;
    continuity_record_strict(g->c, "drill.began", cmd->by, cmd->name, detail, on_recorded, s);
}

/* ---- opening, closing ---- */

void gamedays_reload(struct gamedays *g)
{
    const struct set_continuity *set = continuity_set(g->c);
    for (size_t i = 0; i < set->drills.n; i++)
        add(g, CONF_AT(set->drills, struct set_drill, i));
    for (size_t i = 0; i < g->n;) {
        struct day *d = &g->days[i];
        if (set_of(g, d->name)) {
            i++;
            continue;
        }
        for (unsigned bit = 1; bit <= ALERT_PROGRAM; bit <<= 1)
            alert(g, d, bit, false, "the drill was removed");
        d->state.next_unix_ms = 0;
        snprintf(d->result, sizeof d->result, "removed from the settings");
        d->state.running = false;
        announce(g, d);
        *d = g->days[--g->n];
    }
}

struct gamedays *gamedays_open(struct continuity *c, struct err *e)
{
    struct gamedays *g = calloc(1, sizeof *g);
    if (!g) {
        (void)err_set(e, "out of memory");
        return NULL;
    }
    g->c = c;
    find_program(g);
    gamedays_reload(g);
    return g;
}

void gamedays_use(struct gamedays *g, const char *path)
{
    snprintf(g->path, sizeof g->path, "%s", path);
}

void gamedays_close(struct gamedays *g)
{
    if (!g)
        return;
    if (g->start)
        g->start->g = NULL;
    if (g->run.program) {
        if (program_pid(g->run.program) > 0)
            (void)kill(program_pid(g->run.program), SIGTERM); /* it ends its stack by itself */
        program_drop(g->run.program, false);
    }
    free(g);
}

void gamedays_seen(struct gamedays *g, const PB(DrillState) * s)
{
    struct day *d = find(g, s->name);
    if (!d || (g->run.program && strcmp(g->run.name, s->name) == 0))
        return;
    d->state.began_unix_ms = s->began_unix_ms;
    d->state.ended_unix_ms = s->ended_unix_ms;
    d->state.next_unix_ms = s->next_unix_ms;
    d->state.running = s->running;
    d->state.passed = s->passed;
    d->state.failures = s->failures;
    d->state.open_alerts = s->open_alerts;
    snprintf(d->result, sizeof d->result, "%s", s->result);
    d->skips = strncmp(s->result, "skipped:", 8) == 0 ? 1 : 0;
}

size_t gamedays_states(const struct gamedays *g, const PB(DrillState) * *ret, size_t max)
{
    size_t n = 0;
    for (; n < g->n && n < max; n++) {
        struct day *d = (struct day *)(uintptr_t)&g->days[n];
        d->state.name = d->name;
        d->state.result = d->result;
        ret[n] = &d->state;
    }
    return n;
}
