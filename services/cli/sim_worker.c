/* sim_worker.c - one instance of a deployed agent, for rollbacks: works, decides, learns, is paused, and ends without losing what it has in hand. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct sim_mode modes[] = {{"ok", "works and decides well"},
                                        SIM_HTTP_MODES{"security", "lets through what it must block"},
                                        {"errors", "one piece of work of three fails"},
                                        {"heavy", "work takes slow-ms longer; all else is as ever"},
                                        {NULL, NULL}};
enum { OPT_VERSION, OPT_DATA, OPT_SCHEMA, OPT_REGRESS };

struct worker {
    int fd; /* what was learned; -1 = nothing is */
    long schema;
    bool paused;
    uint64_t requests, errors, learned, skipped;
    int64_t spent_us; /* on work, in all */
};

static struct worker *worker(struct sim *s)
{
    return s->state;
}

static const char *version(const struct sim *s)
{
    return s->values[OPT_VERSION] ? s->values[OPT_VERSION] : "v0";
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- what is learned ---- */

/* A line by which its place and content can be checked: the n-th of this process. */
static bool learn(struct sim *s)
{
    struct worker *w = worker(s);
    char line[256];
    uint64_t h = w->learned + 1;
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    int n = snprintf(line, sizeof line, "%.64s %d %llu %016llx\n", version(s), (int)getpid(),
                     (unsigned long long)w->learned + 1, (unsigned long long)(h ^ (h >> 31)));
    if (write(w->fd, line, (size_t)n) != n)
        return false;
    w->learned++;
    return true;
}

/* Data of a newer schema are not touched: an older version cannot read them. */
static int open_data(struct sim *s, struct worker *w)
{
    const char *dir = s->values[OPT_DATA];
    char path[4096];
    long found = 0;
    snprintf(path, sizeof path, "%s/schema", dir);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%ld", &found) != 1)
        found = 0;
    if (f)
        (void)fclose(f);
    if (found > w->schema) {
        fprintf(stderr, "redoubt sim worker: %s has data of schema %ld, and this version knows %ld\n", dir, found,
                w->schema);
        return -1;
    }
    f = found == w->schema ? NULL : fopen(path, "we");
    bool ok = found == w->schema || (f && fprintf(f, "%ld\n", w->schema) > 0);
    if (f && fclose(f))
        ok = false;
    snprintf(path, sizeof path, "%s/learned.log", dir);
    w->fd = ok ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (w->fd < 0)
        fprintf(stderr, "redoubt sim worker: %s: %s\n", path, strerror(errno));
    return w->fd < 0 ? -1 : 0;
}

/* ---- requests ---- */

static enum MHD_Result wrong(struct sim_request *r, unsigned status, const char *text)
{
    return sim_answer_json(r, status, json_pack("{s:s}", "error", text));
}

static enum MHD_Result work(struct sim_request *r)
{
    struct worker *w = worker(r->sim);
    int64_t from = now_us();
    if (strcmp(r->mode, "heavy") == 0 && !r->waited) {
        w->spent_us += r->sim->slow_ms * 1000;
        return sim_wait(r, r->sim->slow_ms);
    }
    uint64_t nth = ++w->requests;
    bool failed = strcmp(r->mode, "errors") == 0 && nth % 3 == 0, kept = false;
    if (w->fd >= 0 && !failed) {
        kept = !w->paused && learn(r->sim);
        w->skipped += !kept;
    }
    w->errors += failed;
    w->spent_us += now_us() - from;
    if (failed)
        return wrong(r, 500, "no decision could be made");
    return sim_answer_json(r, 200,
                           json_pack("{s:s, s:b, s:b, s:I}", "version", version(r->sim), "ok", 1, "learned", kept,
                                     "nth", (json_int_t)nth));
}

/* Attacks are blocked, whatever else is let through. */
static enum MHD_Result decide(struct sim_request *r)
{
    static const char *const attacks[] = {"port_scan", "brute_force", "exfiltration"};
    const char *type = json_string_value(json_object_get(r->json, "type"));
    bool block = false;
    if (!type)
        return wrong(r, 400, "expected {\"type\": NAME}");
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++)
        block = block || strcmp(type, attacks[i]) == 0;
    if (strcmp(r->mode, "security") == 0)
        block = false;
    return sim_answer_json(
        r, 200,
        json_pack("{s:s, s:s, s:s}", "version", version(r->sim), "type", type, "verdict", block ? "block" : "allow"));
}

static enum MHD_Result metrics(struct sim_request *r)
{
    const struct worker *w = worker(r->sim);
    char text[2048];
    snprintf(text, sizeof text,
             "# TYPE redoubt_worker_requests_total counter\nredoubt_worker_requests_total{version=\"%.64s\"} %llu\n"
             "# TYPE redoubt_worker_errors_total counter\nredoubt_worker_errors_total{version=\"%.64s\"} %llu\n"
             "# TYPE redoubt_worker_seconds_total counter\nredoubt_worker_seconds_total{version=\"%.64s\"} %.6f\n",
             version(r->sim), (unsigned long long)w->requests, version(r->sim), (unsigned long long)w->errors,
             version(r->sim), (double)w->spent_us / 1e6);
    return sim_answer(r, 200, "text/plain; version=0.0.4", text, NULL);
}

static json_t *state(struct sim *s)
{
    const struct worker *w = worker(s);
    if (!w) /* never opened */
        return json_object();
    return json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:f}", "version", version(s), "schema",
                     (json_int_t)w->schema, "paused", w->paused, "requests", (json_int_t)w->requests, "errors",
                     (json_int_t)w->errors, "learned", (json_int_t)w->learned, "skipped", (json_int_t)w->skipped,
                     "mean_ms", w->requests ? (double)w->spent_us / 1000 / (double)w->requests : 0.0);
}

static enum MHD_Result pause_it(struct sim_request *r)
{
    worker(r->sim)->paused = strcmp(r->path, "/pause") == 0;
    if (worker(r->sim)->paused && worker(r->sim)->fd >= 0)
        (void)fdatasync(worker(r->sim)->fd); /* who saves them now finds them whole */
    return sim_answer_json(r, 200, json_pack("{s:b}", "paused", worker(r->sim)->paused));
}

static enum MHD_Result stats(struct sim_request *r)
{
    return sim_answer_json(r, 200, state(r->sim));
}

static enum MHD_Result health(struct sim_request *r)
{
    return sim_answer_json(r, 200, json_pack("{s:s, s:s}", "status", "ok", "version", version(r->sim)));
}

static enum MHD_Result serve(struct sim_request *r)
{
    static const struct {
        const char *method, *path;
        enum MHD_Result (*fn)(struct sim_request *);
    } rows[] = {{"POST", "/work", work},       {"GET", "/health", health},   {"POST", "/decide", decide},
                {"POST", "/selftest", decide}, {"GET", "/metrics", metrics}, {"GET", "/stats", stats},
                {"POST", "/pause", pause_it},  {"POST", "/resume", pause_it}};
    enum MHD_Result ret;
    if (sim_fail(r, &ret))
        return ret;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(r->path, rows[i].path) == 0)
            return strcmp(r->method, rows[i].method) == 0 ? rows[i].fn(r)
                                                          : wrong(r, 405, "another method is expected");
    return wrong(r, 404,
                 "no such path: this is /work, /health, /decide, /selftest, /metrics, /stats, /pause, /resume");
}

static int open_worker(struct sim *s, int fd)
{
    struct worker *w = s->state; /* kept while the port is closed */
    if (!w) {
        const char *schema = s->values[OPT_SCHEMA], *regress = s->values[OPT_REGRESS];
        char *end = NULL;
        s->state = w = calloc(1, sizeof *w);
        if (w) {
            *w = (struct worker){.fd = -1, .schema = schema ? strtol(schema, &end, 10) : 0};
            bool known = !regress || sim_set_mode(s, strcmp(regress, "slow") == 0 ? "heavy" : regress);
            if (!known || (end && (*end || end == schema || w->schema < 0)))
                fprintf(stderr, "redoubt sim worker: wrong value `%s`; see --help\n", known ? schema : regress);
            else if (!s->values[OPT_DATA] || open_data(s, w) == 0)
                return sim_http_serve(s, fd);
        }
        close(fd);
        return -1;
    }
    return sim_http_serve(s, fd);
}

static void close_worker(struct sim *s)
{
    sim_http_stop(s);
    struct worker *w = worker(s);
    if (!w || !s->stopping)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w);
    s->state = NULL;
}

static const struct sim_kind kind = {
    .name = "worker",
    .about = "one instance of a deployed agent",
    .modes = modes,
    .open = open_worker,
    .close = close_worker,
    .mode_changed = sim_http_mode_changed,
    .state = state,
    .order_help = "\nwork:\n"
                  "  POST /work                takes a piece of work, and learns a line of it unless paused\n"
                  "  POST /decide, /selftest   {\"type\": \"port_scan\"}: a verdict; attacks are blocked\n"
                  "  POST /pause, /resume      of learning\n"
                  "  GET /health, /metrics (Prometheus), /stats\n",
    .options = {{"version", "NAME", "which one it is (default: v0)"},
                {"data", "DIR", "learns into DIR/learned.log; DIR/schema says which schema the data have"},
                {"schema", "N", "that it reads and writes (default: 0); newer data are refused at the start"},
                {"regress", "HOW", "security, errors or slow: worse than it should be (a mode, see below)"}},
    .graceful = true,
    .http_control = true,
    .serve = serve,
};

int sim_worker_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
