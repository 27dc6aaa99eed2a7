/* sim_agent.c - a simulated MCP-Security agent on libredoubt: calls its LLM, reports each outcome, acts, obeys directives.
 *
 * libredoubt's thread only takes a directive over into `now` under the lock and rebuilds the session for the new model; calls,
 * printing and everything else happen on the loop. One JSON line per event on stdout. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "cli/sim_mind.h"
#include "cli/sim_work.h"
#include "client/redoubt.h"
#include "common/http.h"
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX    64 /* under way at once; more are not started, as an agent would wait */
#define MAX_RESPONSE (256 * 1024)
#define NEWS_MS      1000
#define EXIT_RESTART 75 /* EX_TEMPFAIL: whoever started it begins it anew */

/* What libredoubt's thread hands over to the loop, in order. */
struct happening {
    struct happening *next;
    json_t *line;
};

/* What the agent is to be. */
struct position {
    uint64_t epoch;
    int posture; /* 0 = no directive yet: no calls */
    char target[TARGET_MAX_LEN + 1];
    char *session;       /* the request's body for the model of that target; NULL = no LLM */
    unsigned generation; /* grows with each re-initialisation */
};

struct sim_agent {
    struct cli *c;
    const struct opts_sim_agent *o;
    struct settings *settings;
    const struct set_agent *agent;
    struct loop loop;
    struct http *http;
    redoubt *client;
    struct loop_timer pace, act_pace, news, limit;
    uv_signal_t signals[3];
    uv_async_t wake;
    pthread_mutex_t lock; /* guards `now`, the list of happenings and, until it is open, `client` */
    struct position now;
    struct happening *first, **last;
    unsigned under_way;
    uint64_t calls, failures, held_back, shed;
    struct sim_mind mind;
    struct sim_work work;
    bool failing, admitted, stopping;
    unsigned spoken_generation; /* the session whose first answer has been told */
};

struct call {
    struct sim_agent *a;
    char target[TARGET_MAX_LEN + 1];
    unsigned generation;
    uint64_t permit_id;
};

/* ---- telling ---- */

static void tell(struct sim_agent *a, json_t *line)
{
    char now[CLOCK_TEXT_MAX];
    json_object_set_new(line, "at", json_string(clock_text(clock_wall_ms(), now)));
    json_object_set_new(line, "agent", json_string(a->agent->name));
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

static void stop(struct sim_agent *a);

/* From libredoubt's thread; the lock is held. */
static void hand_over(struct sim_agent *a, json_t *line)
{
    struct happening *h = malloc(sizeof *h);
    if (!h)
        abort();
    *h = (struct happening){.line = line};
    *a->last = h;
    a->last = &h->next;
    uv_async_send(&a->wake);
}

static void on_wake(uv_async_t *w)
{
    struct sim_agent *a = w->data;
    pthread_mutex_lock(&a->lock);
    struct happening *h = a->first;
    a->first = NULL;
    a->last = &a->first;
    pthread_mutex_unlock(&a->lock);
    while (h) {
        struct happening *next = h->next;
        tell(a, h->line);
        free(h);
        h = next;
    }
    if (atomic_load(&a->work.restart) && !a->stopping)
        stop(a);
}

/* The same for whoever does not hold the lock. */
static void hand_over_line(void *ctx, json_t *line)
{
    struct sim_agent *a = ctx;
    pthread_mutex_lock(&a->lock);
    hand_over(a, line);
    pthread_mutex_unlock(&a->lock);
}

/* ---- directives: on libredoubt's thread ---- */

static char *new_session(const char *model)
{
    json_t *j =
        json_pack("{s:s, s:i, s:[{s:s, s:s}, {s:s, s:s}]}", "model", model, "max_tokens", 16, "messages", "role",
                  "system", "content", "You watch a network and answer with one word: block or allow.", "role",
                  "user", "content", "203.0.113.7 has failed to log in 40 times within one minute.");
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}

static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    struct sim_agent *a = ctx;
    enum redoubt_ack ack = REDOUBT_APPLIED;
    pthread_mutex_lock(&a->lock);
    bool other_llm = strcmp(a->now.target, d->llm_target) != 0 || (*d->llm_target != 0) != (a->now.session != NULL);
    if (*d->llm_target && !settings_target(a->settings, d->llm_target)) {
        snprintf(detail, 256, "target %s is not in this agent's settings", d->llm_target);
        ack = REDOUBT_FAILED;
    } else {
        /* Another model knows nothing of the conversation so far: the session begins anew. */
        if (other_llm) {
            free(a->now.session);
            a->now.session = *d->llm_target ? new_session(d->llm_model) : NULL;
            a->now.generation++;
        } else if (a->now.posture == (int)d->posture) {
            ack = REDOUBT_ALREADY;
        }
        snprintf(a->now.target, sizeof a->now.target, "%s", d->llm_target);
        a->now.posture = (int)d->posture;
        a->now.epoch = d->epoch;
    }
    json_t *line = json_pack(
        "{s:s, s:I, s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:i, s:b, s:i}", "event", "directive", "epoch",
        (json_int_t)d->epoch, "posture", wire_enum_name(&redoubt__v1__posture__descriptor, (int)d->posture), "llm",
        d->llm_target, "model", d->llm_model, "automation", d->automation_enabled, "reinitialised",
        other_llm && ack != REDOUBT_FAILED, "ack", wire_enum_name(&redoubt__v1__ack_status__descriptor, (int)ack),
        "reason", d->reason, "load_percent", (int)d->load_percent, "restart_requested", d->restart_requested,
        "monitor_interval_ms", (int)d->monitor_interval_ms);
    if (line)
        hand_over(a, line);
    pthread_mutex_unlock(&a->lock);
    return ack;
}

static void on_connection(void *ctx, bool up)
{
    struct sim_agent *a = ctx;
    pthread_mutex_lock(&a->lock);
    hand_over(a, json_pack("{s:s}", "event", up ? "connected" : "disconnected"));
    pthread_mutex_unlock(&a->lock);
}

static void on_restart(void *ctx, uint64_t epoch)
{
    struct sim_agent *a = ctx;
    sim_work_restart(&a->work, epoch);
}

static void on_monitor(void *ctx, redoubt_monitor *m)
{
    struct sim_agent *a = ctx;
    sim_work_monitor(&a->work, m);
}

static void on_heartbeat(void *ctx, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth)
{
    struct sim_agent *a = ctx;
    sim_mind_heartbeat(&a->mind, progress, exceptions, queue_depth);
}

static void on_selftest(void *ctx, const redoubt_selftest *q)
{
    struct sim_agent *a = ctx;
    pthread_mutex_lock(&a->lock); /* a question may come before redoubt_open() has returned */
    redoubt *client = a->client;
    pthread_mutex_unlock(&a->lock);
    sim_mind_answer(&a->mind, client, q);
}

/* ---- calls ---- */

/* A completion that can be used: choices[0].message.content is a text. */
static bool usable(const char *body, size_t len)
{
    json_t *j = json_loadb(body, len, 0, NULL);
    json_t *first = json_array_get(json_object_get(j, "choices"), 0);
    bool good = json_is_string(json_object_get(json_object_get(first, "message"), "content"));
    json_decref(j);
    return good;
}

static enum redoubt_outcome outcome_of(const struct http_result *r)
{
    switch (r->fault) {
    case HTTP_OK:
        if (r->status >= 200 && r->status <= 299)
            return usable(r->body, r->len) ? REDOUBT_SUCCESS : REDOUBT_ERROR;
        if (r->status == 429)
            return REDOUBT_RATE_LIMITED;
        if (r->status == 503 || r->status == 529)
            return REDOUBT_OVERLOADED;
        if (r->status == 408 || r->status == 504)
            return REDOUBT_TIMEOUT;
        return r->status >= 400 && r->status <= 499 ? REDOUBT_IGNORED : REDOUBT_ERROR;
    case HTTP_RESOLVE:
    case HTTP_CONNECT:
    case HTTP_TLS:
    case HTTP_CERTIFICATE:
        return REDOUBT_UNREACHABLE;
    case HTTP_TIMEOUT:
        return REDOUBT_TIMEOUT;
    case HTTP_CANCELLED:
    case HTTP_FORBIDDEN:
        return REDOUBT_IGNORED;
    default:
        return REDOUBT_ERROR;
    }
}

static void on_answer(void *ctx, const struct http_result *r)
{
    struct call *call = ctx;
    struct sim_agent *a = call->a;
    redoubt_call rc = {.outcome = outcome_of(r),
                       .status_code = (unsigned)r->status,
                       .total_ms = (unsigned)r->total_ms,
                       .first_token_ms = r->first_byte_ms > 0 ? (unsigned)r->first_byte_ms : 0,
                       .retry_after_ms = r->retry_after_ms > 0 ? (unsigned)r->retry_after_ms : 0,
                       .permit_id = call->permit_id};
    bool good = rc.outcome == REDOUBT_SUCCESS;
    a->under_way--;
    if (!a->stopping) {
        if (redoubt_report(a->client, call->target, &rc))
            tell(a, json_pack("{s:s, s:s}", "event", "report_refused", "llm", call->target));
        a->failures += !good;
        /* A good call is news after a failure and after a re-initialisation. */
        if (!good || a->failing || a->spoken_generation != call->generation || a->o->verbose)
            tell(a, json_pack("{s:s, s:s, s:s, s:i, s:I, s:s}", "event", good ? "call_ok" : "call_failed", "llm",
                              call->target, "outcome",
                              wire_enum_name(&redoubt__v1__outcome__descriptor, (int)rc.outcome), "status", r->status,
                              "total_ms", (json_int_t)r->total_ms, "error", r->error));
        a->failing = !good;
        if (good)
            a->spoken_generation = call->generation;
    }
    free(call);
}

static void start_call(struct sim_agent *a, const struct position *p, uint64_t permit_id)
{
    const struct set_target *t = settings_target(a->settings, p->target);
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        abort();
    *call = (struct call){.a = a, .generation = p->generation, .permit_id = permit_id};
    snprintf(call->target, sizeof call->target, "%s", p->target);
    char url[2048], key[1100];
    snprintf(url, sizeof url, "%s/chat/completions", t->probe.url);
    snprintf(key, sizeof key, "Authorization: Bearer %s", t->probe.api_key ? t->probe.api_key : "");
    const char *headers[] = {"Content-Type: application/json", t->probe.api_key && *t->probe.api_key ? key : NULL,
                             NULL};
    struct http_request r = {.url = url,
                             .headers = headers,
                             .body = p->session,
                             .body_len = strlen(p->session),
                             .timeout_ms = a->o->call_ms,
                             .max_response = MAX_RESPONSE};
    a->under_way++;
    a->calls++;
    (void)http_start(a->http, &r, NULL, on_answer, call);
}

/* Frozen, it only watches, and goes on to; otherwise it takes on what it may. */
static bool takes_on(struct sim_agent *a)
{
    if (redoubt_posture_now(a->client) == REDOUBT_FROZEN || redoubt_load(a->client))
        return true;
    a->shed++;
    return false;
}

static void on_act(void *ctx)
{
    struct sim_agent *a = ctx;
    if (!a->stopping && takes_on(a))
        sim_work_act(&a->work, a->client);
}

static void on_news(void *ctx)
{
    struct sim_agent *a = ctx;
    json_t *sums = sim_work_news(&a->work);
    if (sums)
        tell(a, json_pack("{s:s, s:o}", "event", "actions", "actions", sums));
}

static void on_pace(void *ctx)
{
    struct sim_agent *a = ctx;
    if (a->stopping || a->under_way >= CALLS_MAX || !takes_on(a))
        return; /* it waits for its LLM, as an agent would, or sheds load */
    pthread_mutex_lock(&a->lock);
    struct position p = a->now;
    p.session = p.session ? strdup(p.session) : NULL;
    pthread_mutex_unlock(&a->lock);
    if (p.session && p.posture != 0) {
        redoubt_admission may = redoubt_admit(a->client, p.target);
        if (may.admitted)
            start_call(a, &p, may.permit_id);
        else
            a->held_back++;
        if (may.admitted != a->admitted)
            tell(a, json_pack("{s:s, s:s, s:I}", "event", may.admitted ? "admitted" : "held_back", "llm", p.target,
                              "retry_after_ms", (json_int_t)may.retry_after_ms));
        a->admitted = may.admitted;
    }
    free(p.session);
    /* By the LLM or, without one, by fixed rules: it looks at what comes in any case. */
    sim_mind_decide(&a->mind, a->client, p.posture != 0 && p.posture < REDOUBT_SECURITY_FALLBACK);
}

/* ---- start and end ---- */

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void stop(struct sim_agent *a)
{
    a->stopping = true;
    loop_stop(&a->loop);
}

static void on_limit(void *ctx)
{
    stop(ctx);
}

static void on_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    stop(h->data);
}

static void on_turn(uv_signal_t *h, int signum)
{
    struct sim_agent *a = h->data;
    (void)signum;
    tell(a, json_pack("{s:s}", "event", sim_mind_turn(&a->mind) ? "misbehaves" : "behaves"));
}

static const struct set_agent *pick_agent(struct cli *c, const struct settings *s, const char *name)
{
    if (!name && s->agents.n == 1)
        return CONF_AT(s->agents, struct set_agent, 0);
    const struct set_agent *a = name ? settings_agent(s, name) : NULL;
    if (!a)
        cli_fail(c, 0, "%s%s",
                 name ? "no such agent in the settings: " : "the settings have several agents: name one",
                 name ? name : "");
    return a;
}

static int start(struct sim_agent *a)
{
    struct err e = {""};
    char why[256] = "";
    if (loop_init(&a->loop))
        return cli_fail(a->c, CLI_FAILED, "no event loop");
    uv_async_init(&a->loop.uv, &a->wake, on_wake);
    a->wake.data = a;
    static const int caught[3] = {SIGINT, SIGTERM, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&a->loop.uv, &a->signals[i]);
        a->signals[i].data = a;
        uv_signal_start(&a->signals[i], caught[i] == SIGUSR1 ? on_turn : on_signal, caught[i]);
    }
    loop_timer_init(&a->loop, &a->pace, on_pace, a);
    loop_timer_init(&a->loop, &a->act_pace, on_act, a);
    loop_timer_init(&a->loop, &a->news, on_news, a);
    loop_timer_init(&a->loop, &a->limit, on_limit, a);
    if (!(a->http = http_open(&a->loop, &e)))
        return cli_fail(a->c, CLI_FAILED, "%s", e.text);
    const struct set_nats *n = &a->settings->nats;
    const char *env = getenv("REDOUBT_NATS");
    redoubt_options o = {.url = a->c->nats_url                      ? a->c->nats_url
                                : !a->c->config_path && env && *env ? env
                                                                    : n->url,
                         .user = n->user && *n->user ? n->user : NULL,
                         .password = n->password && *n->password ? n->password : NULL,
                         .token = n->token && *n->token ? n->token : NULL,
                         .tls_ca_file = n->tls_ca_file && *n->tls_ca_file ? n->tls_ca_file : NULL,
                         .agent = a->agent->name,
                         .instance = a->o->instance,
                         .heartbeat_ms = (unsigned)(a->o->heartbeat_ms ? a->o->heartbeat_ms : a->agent->heartbeat_ms),
                         .lease_ms = (unsigned)a->o->lease_ms,
                         .on_directive = on_directive,
                         .on_heartbeat = on_heartbeat,
                         .on_connection = on_connection,
                         .on_selftest = on_selftest,
                         .on_restart = strcmp(a->o->restart, "never") == 0 ? NULL : on_restart,
                         .on_monitor = on_monitor,
                         .ctx = a};
    pthread_mutex_lock(&a->lock);
    a->client = redoubt_open(&o, why);
    pthread_mutex_unlock(&a->lock);
    if (!a->client)
        return cli_fail(a->c, CLI_USAGE, "%s", why);
    int64_t every = 1000 / a->o->rate;
    loop_timer_start(&a->pace, every, every);
    if (a->o->act_rate > 0) {
        loop_timer_start(&a->act_pace, 1000 / a->o->act_rate, 1000 / a->o->act_rate);
        loop_timer_start(&a->news, NEWS_MS, NEWS_MS);
    }
    if (a->o->count > 0) /* so long that `count` calls have been due */
        loop_timer_start(&a->limit, a->o->count * every, 0);
    return CLI_OK;
}

/* Also for an agent that was only half started. */
static void end(struct sim_agent *a)
{
    a->stopping = true;
    if (a->http) {
        bool closed = false;
        http_close(a->http, set_true, &closed); /* cancels calls under way: each still comes back to on_answer */
        loop_run_until(&a->loop, &closed, 2000);
    }
    redoubt_close(a->client); /* no callback after this */
    on_wake(&a->wake);
    loop_done(&a->loop);
}

int cmd_sim_agent(struct cli *c, const void *opts, int argc, char **argv)
{
    struct sim_agent *a = calloc(1, sizeof *a);
    if (!a)
        return cli_fail(c, CLI_FAILED, "out of memory");
    a->c = c;
    a->o = opts;
    a->last = &a->first;
    a->wake.data = a;
    a->admitted = true;
    a->work = (struct sim_work){.action = a->o->act,
                                .timeout_ms = (unsigned)a->o->act_ms,
                                .verbose = a->o->verbose,
                                .tell = hand_over_line,
                                .ctx = a};
    pthread_mutex_init(&a->lock, NULL);
    int code = CLI_USAGE;
    bool by_exec = strcmp(a->o->restart, "exec") == 0, never = strcmp(a->o->restart, "never") == 0;
    char which[32];
    if (!sim_mind_init(&a->mind, a->o->misbehave, a->o->well, which))
        cli_fail(c, 0,
                 "--misbehave: `%s` is none of stuck, malformed, contradictory, repeat, denied, exceptions, "
                 "selftest, memory",
                 which);
    else if (!by_exec && !never && strcmp(a->o->restart, "exit") != 0)
        cli_fail(c, 0, "--restart: `%s` is none of exec, exit, never", a->o->restart);
    else if ((a->settings = cli_settings(c)) && (a->agent = pick_agent(c, a->settings, argc ? argv[0] : NULL))) {
        if (sim_work_restarts() > 0) {
            sim_mind_recover(&a->mind); /* a restart helps */
            tell(a, json_pack("{s:s, s:I}", "event", "restarted", "times", (json_int_t)sim_work_restarts()));
        }
        code = start(a);
        if (code == CLI_OK)
            loop_run(&a->loop);
        end(a);
        if (code == CLI_OK)
            tell(a, json_pack("{s:s, s:I, s:I, s:I, s:I, s:o}", "event", "end", "calls", (json_int_t)a->calls,
                              "failures", (json_int_t)a->failures, "held_back", (json_int_t)a->held_back, "shed",
                              (json_int_t)a->shed, "actions", sim_work_sums(&a->work)));
    }
    bool restart = code == CLI_OK && atomic_load(&a->work.restart);
    settings_free(a->settings);
    sim_mind_done(&a->mind);
    free(a->now.session);
    pthread_mutex_destroy(&a->lock);
    free(a);
    if (restart && by_exec)
        sim_work_exec();
    return restart ? EXIT_RESTART : code;
}
