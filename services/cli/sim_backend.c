/* sim_backend.c - the agent's backend: health, the override that must be released or runs out, and actions by idempotency key. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include "cli/sim_ledger.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DURATION_MAX_MS ((json_int_t)7 * 24 * 3600 * 1000)

static const struct sim_mode modes[] = {
    {"ok", "answers well"},
    SIM_HTTP_MODES{"reject", "422 for actions: the backend will not have them"},
    {"lost", "actions are done, and the connection ends in the middle of the answer"},
    {NULL, NULL}};
enum { OPT_TOKEN, OPT_COMPACT };

struct backend {
    json_t *active; /* the activation that holds now; NULL = none */
    int64_t until_unix_ms;
    json_t *activations, *releases, *actions; /* what was done, once per key */
    json_t *keys;                             /* "verb/key" -> how often it came again */
    struct sim_ledger *ledger;                /* of actions; in compact mode all that is kept of them */
};

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct backend *backend(struct sim *s)
{
    return s->state;
}

static void run_out(struct backend *b)
{
    if (b->active && wall_ms() >= b->until_unix_ms) {
        json_decref(b->active);
        b->active = NULL;
    }
}

/* True if the same was asked for under this key before; remembers it. A key may be used once with each verb. */
static bool seen(struct backend *b, const char *verb, const char *key)
{
    if (!key)
        return false;
    char name[256];
    snprintf(name, sizeof name, "%s/%s", verb, key);
    json_t *n = json_object_get(b->keys, name);
    json_object_set_new(b->keys, name, json_integer(n ? json_integer_value(n) + 1 : 0));
    return n != NULL;
}

static enum MHD_Result wrong(struct sim_request *r, unsigned status, const char *text)
{
    return sim_answer_json(r, status, json_pack("{s:s}", "error", text));
}

static enum MHD_Result activate(struct sim_request *r, const char *key)
{
    struct backend *b = backend(r->sim);
    const json_t *duration = json_object_get(r->json, "duration");
    const char *why = json_string_value(json_object_get(r->json, "justification"));
    if (!json_is_integer(duration) || json_integer_value(duration) <= 0 ||
        json_integer_value(duration) > DURATION_MAX_MS)
        return wrong(r, 400, "duration: expected milliseconds, up to 7 days");
    if (!why || !*why)
        return wrong(r, 400, "justification: expected a text");
    bool again = seen(b, "activate", key);
    if (!again) {
        int64_t now = wall_ms();
        json_t *a = json_pack("{s:s?, s:O, s:I, s:I}", "key", key, "request", r->json, "at_unix_ms", (json_int_t)now,
                              "until_unix_ms", (json_int_t)now + json_integer_value(duration));
        json_array_append(b->activations, a);
        json_decref(b->active);
        b->active = a;
        b->until_unix_ms = now + json_integer_value(duration);
    }
    return sim_answer_json(
        r, 200,
        json_pack("{s:b, s:b, s:I}", "ok", 1, "repeated", again, "until_unix_ms", (json_int_t)b->until_unix_ms));
}

static enum MHD_Result release(struct sim_request *r, const char *key)
{
    struct backend *b = backend(r->sim);
    bool again = seen(b, "deactivate", key), was = b->active != NULL;
    if (!again) {
        json_array_append_new(b->releases, json_pack("{s:s?, s:b, s:I}", "key", key, "was_active", was, "at_unix_ms",
                                                     (json_int_t)wall_ms()));
        json_decref(b->active);
        b->active = NULL;
    }
    return sim_answer_json(r, 200, json_pack("{s:b, s:b, s:b}", "ok", 1, "repeated", again, "was_active", was));
}

/* The epoch that the guard says the action is of: a header, or a number in the body; 0 = none. */
static uint64_t epoch_of(struct sim_request *r)
{
    const char *header = sim_header(r, "Redoubt-Epoch");
    json_t *epoch = json_object_get(r->json, "epoch");
    if (header)
        return strtoull(header, NULL, 10);
    return json_is_integer(epoch) && json_integer_value(epoch) > 0 ? (uint64_t)json_integer_value(epoch) : 0;
}

static enum MHD_Result action(struct sim_request *r, const char *key)
{
    struct backend *b = backend(r->sim);
    const char *name = json_string_value(json_object_get(r->json, "action"));
    const char *agent = json_string_value(json_object_get(r->json, "agent"));
    bool compact = r->sim->values[OPT_COMPACT] != NULL;
    if (!name || !*name)
        return wrong(r, 400, "action: expected a text");
    if (!key || !*key)
        return wrong(r, 400, "header Idempotency-Key: expected");
    if (strcmp(r->mode, "reject") == 0)
        return wrong(r, 422, "refused by policy");
    int64_t now = wall_ms();
    bool again = !sim_ledger_take(b->ledger, agent ? agent : "", key, epoch_of(r), now);
    if (!compact) {
        (void)seen(b, "action", key);
        if (!again)
            json_array_append_new(b->actions, json_pack("{s:s, s:s?, s:O?, s:O, s:I}", "key", key, "epoch_header",
                                                        sim_header(r, "Redoubt-Epoch"), "epoch",
                                                        json_object_get(r->json, "epoch"), "request", r->json,
                                                        "at_unix_ms", (json_int_t)now));
    }
    if (strcmp(r->mode, "lost") == 0) {
        static const char *const half[] = {"{\"ok\":tr", NULL};
        return sim_answer_pieces(r, "application/json", half, 500, SIM_END_CUT);
    }
    return sim_answer_json(r, again ? 200 : 202, json_pack("{s:b, s:b}", "ok", 1, "repeated", again));
}

static enum MHD_Result serve(struct sim_request *r)
{
    static const struct {
        const char *path;
        enum MHD_Result (*fn)(struct sim_request *, const char *);
        bool may_be_empty;
    } posts[] = {{"/api/admin/override/activate", activate, false},
                 {"/api/admin/override/deactivate", release, true},
                 {"/api/actions", action, false}};
    const char *token = r->sim->values[OPT_TOKEN], *given = sim_header(r, "Authorization");
    enum MHD_Result ret;
    if (sim_fail(r, &ret))
        return ret;
    run_out(backend(r->sim));
    if (strcmp(r->path, "/health") == 0 && strcmp(r->method, "GET") == 0)
        return sim_answer(r, 200, "application/json", "{\"status\":\"ok\"}", NULL);
    for (size_t i = 0; i < sizeof posts / sizeof *posts; i++) {
        if (strcmp(r->path, posts[i].path) != 0)
            continue;
        if (strcmp(r->method, "POST") != 0)
            return wrong(r, 405, "only POST is accepted");
        if (token && (!given || strncmp(given, "Bearer ", 7) != 0 || strcmp(given + 7, token) != 0))
            return wrong(r, 401, "wrong bearer token");
        if (!json_is_object(r->json) && !(posts[i].may_be_empty && r->len == 0))
            return wrong(r, 400, "expected a JSON object");
        return posts[i].fn(r, sim_header(r, "Idempotency-Key"));
    }
    return wrong(r, 404, "no such path: this is /health, /api/admin/override/activate and /deactivate, /api/actions");
}

static json_t *state(struct sim *s)
{
    struct backend *b = backend(s);
    if (!b) /* never opened */
        return json_object();
    run_out(b);
    json_t *override = json_pack("{s:b, s:I, s:O?}", "active", b->active != NULL, "until_unix_ms",
                                 (json_int_t)(b->active ? b->until_unix_ms : 0), "activation", b->active);
    return json_pack("{s:o, s:O, s:O, s:O, s:O, s:o}", "override", override, "activations", b->activations,
                     "releases", b->releases, "actions", b->actions, "keys", b->keys, "ledger",
                     sim_ledger_json(b->ledger));
}

/* POST /sim/fence: the agent is frozen, and whoever froze it was told that nothing of it comes any more. */
static json_t *order(struct sim *s, const char *method, const char *path, const json_t *body, int *ret_status)
{
    struct backend *b = backend(s);
    const char *agent = NULL;
    json_int_t epoch = 0;
    if (strcmp(path, "/sim/fence") != 0 || strcmp(method, "POST") != 0)
        return NULL;
    if (!body || json_unpack((json_t *)(uintptr_t)body, "{s:s, s:I !}", "agent", &agent, "epoch", &epoch) ||
        epoch < 1 || !b) {
        *ret_status = b ? 400 : 409;
        return json_pack("{s:s}", "error", b ? "expected {\"agent\": NAME, \"epoch\": N}" : "it was never open");
    }
    if (!sim_ledger_fence(b->ledger, agent, (uint64_t)epoch)) {
        *ret_status = 500;
        return json_pack("{s:s}", "error", "out of memory");
    }
    return json_pack("{s:s, s:I}", "agent", agent, "epoch", epoch);
}

static int open_backend(struct sim *s, int fd)
{
    struct backend *b = s->state; /* kept while the port is closed: a backend that comes back remembers */
    if (!b) {
        s->state = b = calloc(1, sizeof *b);
        if (!b) {
            close(fd);
            return -1;
        }
        *b = (struct backend){.activations = json_array(),
                              .releases = json_array(),
                              .actions = json_array(),
                              .keys = json_object(),
                              .ledger = sim_ledger_open()};
        if (!b->ledger) {
            close(fd);
            return -1;
        }
    }
    return sim_http_serve(s, fd);
}

static void close_backend(struct sim *s)
{
    sim_http_stop(s);
    struct backend *b = backend(s);
    if (!b || !s->stopping)
        return;
    json_decref(b->active);
    json_decref(b->activations);
    json_decref(b->releases);
    json_decref(b->actions);
    json_decref(b->keys);
    sim_ledger_close(b->ledger);
    free(b);
    s->state = NULL;
}

static const struct sim_kind kind = {
    .name = "backend",
    .about = "the agent's backend, with the override API",
    .modes = modes,
    .open = open_backend,
    .close = close_backend,
    .mode_changed = sim_http_mode_changed,
    .state = state,
    .order = order,
    .order_help =
        "  POST /sim/fence           {\"agent\": \"a\", \"epoch\": 7}: what comes of it from now on under that "
        "epoch, an older\n"
        "                            one or none is remarked as `fenced`\n",
    .options = {{"token", "TOKEN", "asks for this bearer token (default: none)"},
                {"compact", NULL,
                 "of actions keep only the ledger (counts per agent, remarks): for millions of them"}},
    .http_control = true,
    .serve = serve,
};

int sim_backend_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
