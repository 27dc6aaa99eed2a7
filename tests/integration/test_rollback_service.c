/* test_rollback_service.c - redoubt-rollback as two processes on a real NATS and Redis, with a world of versions and a traffic that is seen.
 *
 * One deployment per test: they share the stack. In the beginning each runs v1; when that is verified v2 is deployed by hand, and that is what
 * is gone back from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rollback_town.h"

#define E(x)      REDOUBT__V1__##x
#define PHASE(x)  ((int)REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_##x)
#define STATUS(x) ((int)REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x)

static const char *const names[] = {"d-whole", "d-refuse", "d-orders", "d-crash", "d-empty",
                                    "d-bus",   "d-frozen", "d-data",   "d-reload"};
enum { DEPLOYMENTS = sizeof names / sizeof names[0] };
#define LIMIT_MS (6 * HARNESS_WAIT_MS) /* sanitised, and with others on the same cores */
#define SEEN_MAX 8192

static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *replica[2];
    natsConnection *nc;
    natsSubscription *changes, *alerts, *audits;
    char config[600], program[512];
    struct worlds worlds;
    PB(RollbackChanged) * change[SEEN_MAX];
    size_t n_changes;
    PB(Alert) * alert[SEEN_MAX];
    size_t n_alerts;
    PB(AuditRecord) * record[SEEN_MAX];
    size_t n_records;
    uint64_t orders;
    const char *check_kept;
} T;

static struct world *world(const char *name)
{
    for (size_t i = 0; i < T.worlds.n; i++)
        if (strcmp(T.worlds.w[i].name, name) == 0)
            return &T.worlds.w[i];
    fail_msg("no world %s", name);
    return NULL;
}

/* ---- seeing ---- */

static void *unpacked(natsMsg *m, const ProtobufCMessageDescriptor *desc)
{
    struct err e;
    void *x = wire_unpack(desc, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!x)
        fail_msg("%s: %s", natsMsg_GetSubject(m), e.text);
    return x;
}

static void take_change(natsMsg *m)
{
    const char *id = "";
    char expected[160];
    PB(RollbackChanged) *c = unpacked(m, PB_DESC(rollback_changed));
    natsMsgHeader_Get(m, "ce-id", &id);
    snprintf(expected, sizeof expected, "rollback/%s/%" PRIu64, c->deployment, c->epoch);
    assert_string_equal(id, expected);
    assert_true(T.n_changes < SEEN_MAX);
    T.change[T.n_changes++] = c;
}

static void take_in(void)
{
    natsMsg *m = NULL;
    int64_t wait_ms = 5;
    while (natsSubscription_NextMsg(&m, T.changes, wait_ms) == NATS_OK) {
        take_change(m);
        natsMsg_Destroy(m);
        wait_ms = 1;
    }
    while (natsSubscription_NextMsg(&m, T.alerts, 1) == NATS_OK) {
        assert_true(T.n_alerts < SEEN_MAX);
        T.alert[T.n_alerts++] = unpacked(m, PB_DESC(alert));
        natsMsg_Destroy(m);
    }
    while (natsSubscription_NextMsg(&m, T.audits, 1) == NATS_OK) {
        assert_true(T.n_records < SEEN_MAX);
        T.record[T.n_records++] = unpacked(m, PB_DESC(audit_record));
        natsMsg_Destroy(m);
    }
}

#define WAIT(cond)                                                                                                   \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + LIMIT_MS;                                                                \
        while (take_in(), !(cond))                                                                                   \
            if (clock_mono_ms() > end_ms_)                                                                           \
                fail_msg("waited in vain for: %s", #cond);                                                           \
    } while (0)

static const PB(RollbackChanged) * last(const char *deployment)
{
    const PB(RollbackChanged) *best = NULL;
    for (size_t i = 0; i < T.n_changes; i++)
        if (strcmp(T.change[i]->deployment, deployment) == 0 && (!best || T.change[i]->epoch > best->epoch))
            best = T.change[i];
    return best;
}

static int phase_of(const char *deployment)
{
    const PB(RollbackChanged) *c = last(deployment);
    return c ? (int)c->phase : 0;
}

static bool was_in(const char *deployment, int phase)
{
    for (size_t i = 0; i < T.n_changes; i++)
        if (strcmp(T.change[i]->deployment, deployment) == 0 && (int)T.change[i]->phase == phase)
            return true;
    return false;
}

static const PB(DeployedVersion) * version_of(const PB(RollbackChanged) * c, const char *name)
{
    for (size_t i = 0; c && i < c->n_versions; i++)
        if (strcmp(c->versions[i]->name, name) == 0)
            return c->versions[i];
    return NULL;
}

/* It runs, and so far as the document says. */
static bool is_current(const char *deployment, const char *version, bool verified)
{
    const PB(RollbackChanged) *c = last(deployment);
    const PB(DeployedVersion) *v = version_of(c, version);
    return v && strcmp(c->current_version, v->id) == 0 &&
           (!verified || v->state == E(VERSION_STATE__VERSION_STATE_VERIFIED));
}

static const PB(Alert) * alert_of(const char *deployment, const char *what, bool resolved)
{
    char key[128];
    snprintf(key, sizeof key, "rollback/%s/%s", deployment, what);
    for (size_t i = T.n_alerts; i-- > 0;)
        if (strcmp(T.alert[i]->dedup_key, key) == 0 && !T.alert[i]->resolved == !resolved)
            return T.alert[i];
    return NULL;
}

static size_t records_of(const char *deployment, const char *action, const char *actor)
{
    size_t n = 0;
    for (size_t i = 0; i < T.n_records; i++)
        n += strcmp(T.record[i]->subject, deployment) == 0 && (!action || strcmp(T.record[i]->action, action) == 0) &&
             (!actor || strcmp(T.record[i]->actor, actor) == 0);
    return n;
}

/* ---- asking ---- */

struct reply {
    int status;
    char message[1100];
    PB(RollbackChanged) * changed; /* of the payload */
    PB(RollbackPlan) * plan;
};

static void reply_free(struct reply *r)
{
    wire_free(r->changed);
    wire_free(r->plan);
    *r = (struct reply){0};
}

static PB(RollbackCommand) command(const char *deployment)
{
    PB(RollbackCommand) c = PB_INIT(ROLLBACK_COMMAND);
    c.deployment = (char *)deployment;
    c.by = (char *)"ada";
    c.reason = (char *)"v2 misjudges";
    return c;
}

/* False if nobody has answered. */
static bool ask(const char *verb, const PB(RollbackCommand) * c, struct reply *r)
{
    char subject[128];
    struct err e;
    size_t len;
    natsMsg *m = NULL;
    snprintf(subject, sizeof subject, SUBJECT_CMD "rollback.%s", verb);
    void *data = wire_pack(c, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    natsStatus st = natsConnection_Request(&m, T.nc, subject, data, (int)len, HARNESS_WAIT_MS);
    free(data);
    *r = (struct reply){0};
    if (st != NATS_OK)
        return false;
    PB(CommandReply) *x = unpacked(m, PB_DESC(command_reply));
    natsMsg_Destroy(m);
    r->status = (int)x->status;
    snprintf(r->message, sizeof r->message, "%s", x->message);
    bool plan = strcmp(verb, "plan") == 0;
    if (x->payload.len > 0 && plan)
        r->plan = wire_unpack(PB_DESC(rollback_plan), x->payload.data, x->payload.len, &e);
    else if (x->payload.len > 0)
        r->changed = wire_unpack(PB_DESC(rollback_changed), x->payload.data, x->payload.len, &e);
    if (x->payload.len > 0 && !r->plan && !r->changed)
        fail_msg("payload of %s: %s", verb, e.text);
    wire_free(x);
    return true;
}

#define EXPECT(r, wanted)                                                                                            \
    do {                                                                                                             \
        if ((r).status != (wanted))                                                                                  \
            fail_msg("answered %d: %s", (r).status, (r).message);                                                    \
    } while (0)

/* Nobody acts for a deployment for a moment when a replica has just gone: asked again then, as people do. */
static struct reply order(const char *verb, const PB(RollbackCommand) * c)
{
    struct reply r;
    int64_t end_ms = clock_mono_ms() + LIMIT_MS;
    while (!ask(verb, c, &r) || r.status == STATUS(UNAVAILABLE)) {
        if (clock_mono_ms() > end_ms)
            fail_msg("%s %s: %s", verb, c->deployment, r.message);
        reply_free(&r);
        take_in();
    }
    return r;
}

static void start_job(const char *deployment, const char *id)
{
    PB(RollbackCommand) c = command(deployment);
    c.job_id = (char *)id;
    struct reply r = order("start", &c);
    if (r.status != STATUS(OK) && r.status != STATUS(ALREADY))
        fail_msg("not started: %s", r.message);
    reply_free(&r);
}

static void give(const char *verb, const char *deployment)
{
    PB(RollbackCommand) c = command(deployment);
    struct reply r = order(verb, &c);
    EXPECT(r, STATUS(OK));
    reply_free(&r);
}

/* ---- the stack ---- */

/* Stands for restic, which is not what is tried here: it copies. `slow-backup` holds it up. */
static const char copier[] =
    "#!/bin/sh\n"
    "set -eu\n"
    "d='%s'\n"
    "while [ \"${1#--}\" != \"$1\" ]; do shift; done\n"
    "case $1 in\n"
    "snapshots) c=; printf '['; for f in \"$d\"/store/*; do [ -d \"$f\" ] || continue\n"
    "  printf '%%s{\"id\":\"%%s\",\"time\":\"2026-01-01T00:00:00Z\",\"paths\":[],\"tags\":[]}' \"$c\" \"${f##*/}\"; "
    "c=,\n"
    "  done; printf ']' ;;\n"
    "backup)\n"
    "  if [ -e \"$d/slow-backup\" ]; then touch \"$d/backing-up\"; exec sleep 300; fi\n"
    "  while [ \"$1\" != -- ]; do shift; done\n"
    "  shift\n"
    "  id=0000000$(ls \"$d/store\" | wc -l)\n"
    "  mkdir \"$d/store/$id\"\n"
    "  for p; do cp -a --parents \"$p\" \"$d/store/$id\"; done\n"
    "  echo '{\"message_type\":\"summary\",\"snapshot_id\":\"'$id'\"}' ;;\n"
    "restore) mkdir -p \"${3#*=}\"; cp -a \"$d/store/$2/.\" \"${3#*=}\" ;;\n"
    "esac\n";

static void data_open(const struct world *w)
{
    char path[700], text[3000];
    static const char *const dirs[] = {"store", "learnt"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, dirs[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    world_file(w, "learnt/weights", "0.5\n");
    world_file(w, "password", "of the repository\n");
    snprintf(path, sizeof path, "%s/restic", w->dir);
    snprintf(text, sizeof text, copier, w->dir);
    world_write(path, text, 0755);
    setenv("REDOUBT_RESTIC", path, 1);
}

static void data_settings(const struct world *w, FILE *f)
{
    fprintf(
        f,
        "      data: { repository: %s/store, password_file: %s/password, path: [%s/learnt], read_back: 0%%, stream: "
        "\"\", pause: [%s, %s, pause], resume: [%s, %s, resume] }\n",
        w->dir, w->dir, w->dir, T.worlds.program, w->dir, T.worlds.program, w->dir);
}

static void write_settings(bool with_reload, const char *step)
{
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "rollback:\n  observe: 1s\n  check_kept: %s\n  lease_ttl: 3s\n  member_ttl: 3s\n  exec_allowed: [%s]\n  "
            "deployments:\n",
            T.nats->url, T.redis->port, harness_dir(T.h), T.check_kept ? T.check_kept : "0s", T.worlds.program);
    for (size_t i = 0; i < T.worlds.n; i++) {
        const struct world *w = &T.worlds.w[i];
        if (!with_reload && strcmp(w->name, "d-reload") == 0)
            continue;
        world_settings(&T.worlds, w, f);
        if (strcmp(w->name, "d-data") == 0)
            data_settings(w, f);
        bool slow =
            strcmp(w->name, "d-orders") == 0 || strcmp(w->name, "d-empty") == 0 || strcmp(w->name, "d-reload") == 0;
        fprintf(f,
                "      steps: [100%%, 50%%, 0%%]\n      step: %s\n      check_every: 300ms\n      drain: 100ms\n     "
                " watch: 300ms\n"
                "      settle: 200ms\n      capacity_wait: 20s\n",
                slow ? step : "300ms");
    }
    fclose(f);
}

static natsSubscription *listen_to(const char *subject)
{
    natsSubscription *s = NULL;
    assert_int_equal(natsConnection_SubscribeSync(&s, T.nc, subject), NATS_OK);
    return s;
}

static void find_program(void)
{
    char self[400];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    for (int up = 0; up < 3; up++)
        *strrchr(self, '/') = 0;
    snprintf(T.program, sizeof T.program, "%s/bin/redoubt-rollback", self);
    if (access(T.program, X_OK) != 0)
        fail_msg("%s is not built: run `make all` first", T.program);
}

static bool all_current(const char *version, bool verified)
{
    for (size_t i = 0; i < T.worlds.n; i++)
        if (strcmp(names[i], "d-reload") != 0 && !is_current(names[i], version, verified))
            return false;
    return true;
}

static int set_up(void **state)
{
    (void)state;
    find_program();
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    T.redis = harness_redis(T.h, "redis", NULL);
    snprintf(T.config, sizeof T.config, "%s/redoubt.yaml", harness_dir(T.h));
    worlds_open(&T.worlds, T.h);
    for (size_t i = 0; i < DEPLOYMENTS; i++)
        world_deploy(world_add(&T.worlds, T.h, names[i]), "v1", 2);
    data_open(world("d-data"));
    write_settings(false, "2s");
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    T.changes = listen_to(SUBJECT_ROLLBACK "*");
    T.alerts = listen_to(SUBJECT_ALERT);
    T.audits = listen_to(SUBJECT_AUDIT "rollback");
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {T.program, "-c", T.config, NULL};
        T.replica[i] = harness_run(T.h, i ? "rollback-1" : "rollback-0", 0, argv);
    }
    WAIT(all_current("v1", true));
    for (size_t i = 0; i < DEPLOYMENTS; i++)
        if (strcmp(names[i], "d-reload") != 0)
            world_deploy(&T.worlds.w[i], "v2", 2);
    WAIT(all_current("v2", false));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int ends[2];
    for (int i = 0; i < 2; i++)
        ends[i] = harness_stop(T.replica[i]);
    for (size_t i = 0; i < T.n_changes; i++)
        wire_free(T.change[i]);
    for (size_t i = 0; i < T.n_alerts; i++)
        wire_free(T.alert[i]);
    for (size_t i = 0; i < T.n_records; i++)
        wire_free(T.record[i]);
    natsSubscription_Destroy(T.changes);
    natsSubscription_Destroy(T.alerts);
    natsSubscription_Destroy(T.audits);
    natsConnection_Destroy(T.nc);
    nats_Close();
    MHD_stop_daemon(T.worlds.web);
    harness_close(T.h);
    return ends[0] == 0 && ends[1] == 0 ? 0 : -1; /* drained */
}

static struct harness_proc *replica_of(pid_t pid)
{
    for (int i = 0; i < 2; i++)
        if (T.replica[i]->pid == pid && pid > 0)
            return T.replica[i];
    return NULL;
}

/* v1 alone stands and has everything. */
static void back_on_v1(const char *name)
{
    struct world *w = world(name);
    const PB(RollbackChanged) *c = last(name);
    int side = world_running(w, "v1", 1) > 0;
    assert_int_equal(world_running(w, "v1", side), 2);
    assert_int_equal(world_instances(w), 2); /* nothing is left over */
    assert_int_equal(world_share(&T.worlds, w, side), 100);
    assert_string_equal(c->current_version, version_of(c, "v1")->id);
    assert_int_equal(version_of(c, "v2")->state, E(VERSION_STATE__VERSION_STATE_REJECTED));
    assert_int_equal(c->history[0]->phase, PHASE(DONE));
}

/* Shares only ever fell, and with epochs that only grew. */
static void shares_fell(const char *name)
{
    struct world *w = world(name);
    pthread_mutex_lock(&T.worlds.lock);
    assert_true(w->n_set > 0);
    for (size_t i = 1; i < w->n_set; i++) {
        assert_true(w->set[i] <= w->set[i - 1]);
        assert_true(w->at[i] >= w->at[i - 1]);
    }
    pthread_mutex_unlock(&T.worlds.lock);
}

/* ---- tests ---- */

static void a_whole_job(void **state)
{
    (void)state;
    const char *name = "d-whole";
    struct world *w = world(name);
    PB(RollbackCommand) c = command(name);
    c.by = (char *)"fallback"; /* as the fallback service asks: no version, an id of its own */
    c.reason = (char *)"agent a: gone";
    c.job_id = (char *)"fallback-77-1";
    struct reply r = order("start", &c);
    EXPECT(r, STATUS(OK));
    assert_non_null(r.changed);
    assert_string_equal(r.changed->job_id, "fallback-77-1");
    assert_int_not_equal(r.changed->phase, PHASE(REFUSED));
    reply_free(&r);
    /* The same id starts one job at most. */
    r = order("start", &c);
    EXPECT(r, STATUS(ALREADY));
    reply_free(&r);
    /* One at a time. */
    c.job_id = (char *)"another";
    assert_true(ask("start", &c, &r));
    EXPECT(r, STATUS(UNAVAILABLE));
    assert_non_null(strstr(r.message, "fallback-77-1"));
    reply_free(&r);
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
    shares_fell(name);
    static const int phases[] = {PHASE(PREPARE), PHASE(TARGET_UP), PHASE(SHIFT),
                                 PHASE(DRAIN),   PHASE(STOP),      PHASE(VERIFY)};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
        if (!was_in(name, phases[i]))
            fail_msg("never in phase %d", phases[i]);
    bool half = false;
    for (size_t i = 0; i < w->n_set; i++)
        half |= w->set[i] == 50;
    assert_true(half);
    WAIT(alert_of(name, "started", false) && alert_of(name, "done", false));
    assert_int_equal(alert_of(name, "started", false)->severity, E(SEVERITY__SEVERITY_WARNING));
    WAIT(records_of(name, "rollback.start", "fallback") == 1);
    /* Every change has its own epoch, and every record is of the strict class. */
    for (size_t i = 0; i < T.n_records; i++)
        assert_int_equal(T.record[i]->audit_class, E(AUDIT_CLASS__AUDIT_CLASS_STRICT));
    /* When it has ended the same id is still known. */
    c.job_id = (char *)"fallback-77-1";
    r = order("start", &c);
    EXPECT(r, STATUS(ALREADY));
    reply_free(&r);
}

/* Without a job: others, or a proxy that was started again, send everything to where nothing stands. */
static void traffic_astray(void **state)
{
    (void)state;
    const char *name = "d-whole";
    struct world *w = world(name);
    int side = world_running(w, "v1", 1) > 0;
    assert_int_equal(phase_of(name), PHASE(DONE));
    size_t records = records_of(name, "rollback.weight", "policy");
    assert_null(alert_of(name, "traffic", false));
    assert_null(alert_of(name, "hold", true)); /* what was not told is not over */
    for (size_t i = 1; i <= 2; i++) {
        pthread_mutex_lock(&T.worlds.lock);
        w->share[side] = 0;
        w->share[!side] = 100;
        pthread_mutex_unlock(&T.worlds.lock);
        WAIT(world_share(&T.worlds, w, side) == 100 && world_share(&T.worlds, w, !side) == 0);
        WAIT(records_of(name, "rollback.weight", "policy") >= records + i);
    }
    assert_int_equal(phase_of(name), PHASE(DONE));
    assert_int_equal(world_instances(w), 2);
    /* A third time within the minute is not fought for: a person is told. */
    pthread_mutex_lock(&T.worlds.lock);
    w->share[side] = 0;
    w->share[!side] = 100;
    pthread_mutex_unlock(&T.worlds.lock);
    WAIT(alert_of(name, "traffic", false));
    assert_int_equal(world_share(&T.worlds, w, side), 0);
    pthread_mutex_lock(&T.worlds.lock);
    w->share[side] = 100;
    w->share[!side] = 0;
    pthread_mutex_unlock(&T.worlds.lock);
    WAIT(alert_of(name, "traffic", true));
}

static void plan_changes_nothing(void **state)
{
    (void)state;
    const char *name = "d-whole";
    struct world *w = world(name);
    char before[2000], after[2000];
    world_text(w, "log", before, sizeof before);
    uint64_t epoch = last(name)->epoch;
    PB(RollbackCommand) c = command(name);
    c.by = c.reason = (char *)"";
    struct reply r = order("plan", &c);
    EXPECT(r, STATUS(OK));
    assert_non_null(r.plan);
    assert_string_equal(r.plan->from_name, "v2");
    assert_string_equal(r.plan->to_name, "v1");
    assert_int_equal(r.plan->n_steps, 3);
    assert_int_equal(r.plan->instances, 2);
    assert_int_equal(r.plan->steps[1]->weight_percent, 50);
    assert_int_equal(r.plan->steps[1]->needs_ready, 1);
    assert_int_equal(r.plan->steps[2]->needs_ready, 2);
    assert_string_equal(r.plan->data, "none");
    assert_true(r.plan->n_lines > 3);
    reply_free(&r);
    /* What would be refused is said, too. */
    world_file(w, "fail-check", "no such image here: pull it\n");
    r = order("plan", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "no such image here"));
    assert_non_null(r.plan);
    reply_free(&r);
    world_file(w, "fail-check", NULL);
    c.to_version = (char *)"v9";
    r = order("plan", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "v9"));
    reply_free(&r);
    /* Checks were made, nothing else. */
    world_text(w, "log", after, sizeof after);
    assert_null(strstr(after + strlen(before), " up "));
    assert_int_equal(w->n_set, 0);
    take_in();
    assert_int_equal(phase_of(name), PHASE(IDLE));
    assert_true(last(name)->epoch - epoch < 5); /* observation may have verified it meanwhile */
}

static void set_gone(struct world *w, bool gone)
{
    pthread_mutex_lock(&T.worlds.lock);
    w->gone = gone;
    pthread_mutex_unlock(&T.worlds.lock);
}

static void refused_before_anything(void **state)
{
    (void)state;
    const char *name = "d-refuse";
    struct world *w = world(name);
    PB(RollbackCommand) c = command("d-nowhere");
    struct reply r = order("start", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "d-whole")); /* those that there are */
    reply_free(&r);
    static const char *const verbs[] = {"start", "hold", "resume", "abort", "emergency"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        c = command(name);
        c.by = (char *)" ";
        r = order(verbs[i], &c);
        EXPECT(r, STATUS(INVALID));
        assert_non_null(strstr(r.message, "`by`"));
        reply_free(&r);
        c = command(name);
        c.reason = (char *)"";
        r = order(verbs[i], &c);
        EXPECT(r, STATUS(INVALID));
        assert_non_null(strstr(r.message, "`reason`"));
        reply_free(&r);
    }
    c = command(name);
    c.to_version = (char *)"v9";
    r = order("start", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "v9"));
    reply_free(&r);
    c = command(name);
    c.tainted = true;
    c.restore_snapshot = (char *)"abc";
    r = order("start", &c);
    EXPECT(r, STATUS(INVALID));
    reply_free(&r);
    /* Bytes that are no command. */
    natsMsg *m = NULL;
    assert_int_equal(natsConnection_Request(&m, T.nc, SUBJECT_CMD "rollback.start", "\xff\xff", 2, LIMIT_MS),
                     NATS_OK);
    PB(CommandReply) *x = unpacked(m, PB_DESC(command_reply));
    assert_int_equal(x->status, STATUS(INVALID));
    wire_free(x);
    natsMsg_Destroy(m);
    /* What the executor says in PREPARE. */
    world_file(w, "fail-check", "no room on the disk: 3 MiB are missing\n");
    c = command(name);
    c.job_id = (char *)"refused-1";
    r = order("start", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "no room on the disk"));
    assert_non_null(r.changed);
    assert_int_equal(r.changed->phase, PHASE(REFUSED));
    reply_free(&r);
    WAIT(alert_of(name, "failed", false));
    WAIT(phase_of(name) == PHASE(REFUSED));
    assert_int_equal(world_running(w, "v2", 0), 2);
    assert_int_equal(world_instances(w), 2);
    assert_int_equal(w->n_set, 0);
    assert_string_equal(last(name)->history[0]->job_id, "refused-1");
    world_file(w, "fail-check", NULL);
    /* What the traffic says. */
    set_gone(w, true);
    c.job_id = (char *)"";
    r = order("plan", &c);
    EXPECT(r, STATUS(INVALID));
    assert_non_null(strstr(r.message, "traffic"));
    reply_free(&r);
    set_gone(w, false);
    /* And then it goes. */
    start_job(name, "refused-2");
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
}

static void orders(void **state)
{
    (void)state;
    const char *name = "d-orders";
    struct world *w = world(name);
    start_job(name, "orders-1");
    WAIT(phase_of(name) == PHASE(SHIFT) && last(name)->weight_percent == 50);
    give("hold", name);
    WAIT(phase_of(name) == PHASE(HOLD));
    assert_int_equal(last(name)->hold, E(ROLLBACK_HOLD__ROLLBACK_HOLD_OPERATOR));
    WAIT(alert_of(name, "hold", false));
    const PB(Alert) *a = alert_of(name, "hold", false);
    assert_true(a->manual_intervention_required);
    assert_non_null(strstr(a->detail, "redoubt rollback resume d-orders --by NAME --reason WHY"));
    assert_non_null(strstr(a->detail, "redoubt rollback abort d-orders"));
    int held = world_share(&T.worlds, w, 0);
    give("resume", name);
    WAIT(phase_of(name) != PHASE(HOLD));
    WAIT(alert_of(name, "hold", true));
    assert_true(held == 50);
    give("abort", name);
    WAIT(phase_of(name) == PHASE(ABORTED));
    assert_int_equal(world_running(w, "v2", 0), 2);
    assert_int_equal(world_instances(w), 2);
    assert_int_equal(world_share(&T.worlds, w, 0), 100);
    assert_true(is_current(name, "v2", false));
    WAIT(records_of(name, "rollback.hold", "ada") == 1 && records_of(name, "rollback.resume", "ada") == 1 &&
         records_of(name, "rollback.abort", "ada") == 1);
    /* Straight away. */
    PB(RollbackCommand) c = command(name);
    c.emergency = true;
    struct reply r = order("start", &c);
    EXPECT(r, STATUS(OK));
    assert_true(r.changed && r.changed->job_id[0]); /* an id was made */
    reply_free(&r);
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
    assert_true(ask("abort", &c, &r));
    EXPECT(r, STATUS(UNAVAILABLE)); /* there is none any more */
    reply_free(&r);
}

/* One job, and whoever acts for it dies in every phase: it ends as if nothing had been. */
static void killed_in_each_phase(void **state)
{
    (void)state;
    static const struct {
        int phase;
        bool other; /* the other replica must take over; otherwise the same one may be back first */
    } rows[] = {{PHASE(PREPARE), false},
                {PHASE(TARGET_UP), true},
                {PHASE(SHIFT), true},
                {PHASE(STOP), false},
                {PHASE(VERIFY), true}};
    const char *name = "d-crash";
    struct world *w = world(name);
    world_file(w, "slow-check", "0.3"); /* so that it dies in the middle of acts */
    world_file(w, "slow-up", "0.3");
    world_file(w, "slow-stop", "0.3");
    start_job(name, "crash-1");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        WAIT(was_in(name, rows[i].phase));
        struct harness_proc *p = replica_of(world_holder(w));
        assert_non_null(p);
        harness_kill(p);
        pid_t dead = world_holder(w);
        if (rows[i].other)
            WAIT(world_holder(w) != dead);
        harness_start(p);
        /* The job stays known, whoever is asked. */
        PB(RollbackCommand) c = command(name);
        struct reply r = order("state", &c);
        EXPECT(r, STATUS(OK));
        assert_non_null(r.changed);
        assert_string_equal(r.changed->job_id, "crash-1");
        reply_free(&r);
    }
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
    shares_fell(name);
    WAIT(records_of(name, "rollback.start", "ada") >= 1);
    assert_int_equal(last(name)->n_history, 1);
}

static redisContext *redis_connect(void)
{
    redisContext *c = redisConnect("127.0.0.1", T.redis->port);
    assert_true(c && c->err == 0);
    return c;
}

/* Redis forgets everything, and then is away for a while: the stream knows how far the job was. */
static void redis_emptied(void **state)
{
    (void)state;
    const char *name = "d-empty";
    struct world *w = world(name);
    start_job(name, "empty-1");
    WAIT(phase_of(name) == PHASE(SHIFT) && last(name)->weight_percent == 50);
    give("hold", name);
    WAIT(phase_of(name) == PHASE(HOLD));
    uint64_t epoch = last(name)->epoch;
    int share = world_share(&T.worlds, w, 0);
    redisContext *c = redis_connect();
    freeReplyObject(redisCommand(c, "FLUSHALL"));
    redisFree(c);
    harness_kill(T.redis); /* so that no replica goes on with what it has in memory alone */
    PB(RollbackCommand) o = command(name);
    struct reply r;
    while (ask("resume", &o, &r) && r.status != STATUS(UNAVAILABLE)) /* until it is noticed */
        reply_free(&r);
    assert_non_null(strstr(r.message, "Redis"));
    reply_free(&r);
    assert_int_equal(world_share(&T.worlds, w, 0), share);
    harness_start(T.redis); /* empty */
    give("resume", name);
    WAIT(phase_of(name) == PHASE(DONE));
    assert_true(last(name)->epoch > epoch);
    assert_string_equal(last(name)->job_id, "empty-1");
    back_on_v1(name);
    shares_fell(name);
    /* And the document is in Redis again. */
    c = redis_connect();
    redisReply *x = redisCommand(c, "HGET redoubt:{rb:%s}:doc phase", name);
    assert_true(x && x->type == REDIS_REPLY_STRING && strcmp(x->str, "DONE") == 0);
    freeReplyObject(x);
    redisFree(c);
}

/* The last message of a subject of a stream; NULL if there is none, or nobody answers. */
static void *on_stream(const char *stream, const char *subject, const ProtobufCMessageDescriptor *desc)
{
    jsCtx *js = NULL;
    natsMsg *m = NULL;
    void *x = NULL;
    if (natsConnection_JetStream(&js, T.nc, NULL) == NATS_OK &&
        js_GetLastMsg(&m, js, stream, subject, NULL, NULL) == NATS_OK)
        x = unpacked(m, desc);
    natsMsg_Destroy(m);
    jsCtx_Destroy(js);
    return x;
}

static bool replaces(void *at, void *fresh)
{
    void **p = at;
    wire_free(*p);
    *p = fresh;
    return fresh;
}

/* Without NATS a job that is under way goes on by the journal in Redis; what it has to say is said when NATS is back. */
static void bus_away(void **state)
{
    (void)state;
    const char *name = "d-bus";
    struct world *w = world(name);
    start_job(name, "bus-1");
    WAIT(phase_of(name) == PHASE(SHIFT));
    harness_kill(T.nats);
    int64_t end_ms = clock_mono_ms() + LIMIT_MS;
    while (world_share(&T.worlds, w, 0) != 0 || world_instances(w) != 2) {
        assert_true(clock_mono_ms() < end_ms);
        struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
    harness_start(T.nats);
    /* Our own connection comes back later than theirs, so that what is said then is looked up where it is kept. */
    PB(RollbackChanged) *c = NULL;
    WAIT(replaces(&c, on_stream(STREAM_STATE, SUBJECT_ROLLBACK "d-bus", PB_DESC(rollback_changed))) &&
         (int)c->phase == PHASE(DONE));
    assert_true(T.n_changes < SEEN_MAX);
    T.change[T.n_changes++] = c;
    back_on_v1(name);
    PB(AuditRecord) *r = NULL;
    WAIT(replaces(&r, on_stream(STREAM_AUDIT, SUBJECT_AUDIT "rollback", PB_DESC(audit_record))) &&
         strcmp(r->subject, name) == 0);
    wire_free(r);
    PB(RollbackCommand) o = command(name); /* everybody is back */
    struct reply x = order("state", &o);
    EXPECT(x, STATUS(OK));
    reply_free(&x);
}

/* Which processes have acted, in order, from this place in the log on. */
static bool acted_since(const struct world *w, size_t at, pid_t pid)
{
    char text[8000], start[24];
    world_text(w, "log", text, sizeof text);
    snprintf(start, sizeof start, "%d ", (int)pid);
    for (const char *line = text + (strlen(text) < at ? strlen(text) : at); *line; line = strchr(line, '\n') + 1) {
        if (strncmp(line, start, strlen(start)) == 0)
            return true;
        if (!strchr(line, '\n'))
            break;
    }
    return false;
}

/* A replica that stands still past its lease, in the middle of a job: another goes on, and when the first comes back it does nothing. */
static void frozen_replica(void **state)
{
    (void)state;
    const char *name = "d-frozen";
    struct world *w = world(name);
    char text[8000];
    start_job(name, "frozen-1");
    WAIT(phase_of(name) == PHASE(SHIFT));
    pid_t pid = world_holder(w);
    struct harness_proc *p = replica_of(pid);
    assert_non_null(p);
    harness_freeze(p);
    WAIT(phase_of(name) == PHASE(DONE)); /* the other's work */
    back_on_v1(name);
    shares_fell(name);
    size_t at = strlen(world_text(w, "log", text, sizeof text)), sets = w->n_set;
    uint64_t epoch = last(name)->epoch;
    harness_thaw(p);
    /* It is alive, and its observations go on when its tilt is over; then it has had every occasion to do harm. */
    PB(RollbackCommand) c = command(name);
    struct reply r = order("state", &c);
    EXPECT(r, STATUS(OK));
    reply_free(&r);
    int64_t end_ms = clock_mono_ms() + 3000;
    while (clock_mono_ms() < end_ms)
        take_in();
    assert_true(harness_alive(p));
    assert_false(acted_since(w, at, pid));
    assert_int_equal(w->n_set, sets);
    assert_true(last(name)->epoch - epoch < 8); /* what is observed: nothing of the job */
    assert_int_equal(phase_of(name), PHASE(DONE));
    back_on_v1(name);
}

/* Settings change while a job is under way: it goes on with those that it began with, also when its deployment is gone from them. */
static void reload(void **state)
{
    (void)state;
    const char *name = "d-reload";
    struct world *w = world(name);
    assert_null(last(name));
    write_settings(true, "2s");
    for (int i = 0; i < 2; i++)
        kill(T.replica[i]->pid, SIGHUP);
    WAIT(is_current(name, "v1", true));
    world_deploy(w, "v2", 2);
    WAIT(is_current(name, "v2", false));
    start_job(name, "reload-1");
    WAIT(phase_of(name) == PHASE(SHIFT));
    write_settings(false, "2s");
    for (int i = 0; i < 2; i++)
        kill(T.replica[i]->pid, SIGHUP);
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
    /* Then it is not known any more. */
    PB(RollbackCommand) c = command(name);
    struct reply r = order("state", &c);
    while (r.status == STATUS(OK)) {
        reply_free(&r);
        r = order("state", &c);
    }
    EXPECT(r, STATUS(INVALID));
    reply_free(&r);
}

static bool log_says(const char *file, const char *words)
{
    char line[1000];
    snprintf(line, sizeof line, "grep -q '%s' %s/%s", words, harness_dir(T.h), file);
    return system(line) == 0;
}

static bool world_has(const struct world *w, const char *name)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

/* The service ends while the writer is paused: it goes on before that, and the job goes on with the other replica. */
static void drained_while_paused(void **state)
{
    (void)state;
    const char *name = "d-data";
    struct world *w = world(name);
    char text[8000], paused[60], resumed[60];
    world_file(w, "slow-backup", "");
    world_file(w, "slow-resume", "0.7"); /* whoever does not wait for it is gone before */
    start_job(name, "drain-1");
    WAIT(world_has(w, "backing-up"));
    struct harness_proc *p = replica_of(world_holder(w));
    assert_non_null(p);
    snprintf(paused, sizeof paused, "%d pause", (int)p->pid);
    snprintf(resumed, sizeof resumed, "%d resume", (int)p->pid);
    world_text(w, "log", text, sizeof text);
    assert_non_null(strstr(text, paused));
    assert_null(strstr(text, " resume"));
    assert_int_equal(harness_stop(p), 0);
    assert_non_null(
        strstr(world_text(w, "log", text, sizeof text), resumed)); /* and it has ended: it was waited for */
    assert_null(strstr(strstr(text, resumed), "pause"));
    world_file(w, "slow-backup", NULL);
    world_file(w, "slow-resume", NULL);
    harness_start(p);
    WAIT(phase_of(name) == PHASE(DONE));
    back_on_v1(name);
    assert_true(last(name)->n_lineage > 0);
    world_text(w, "log", text, sizeof text);
    const char *last_pause = strstr(text, paused), *next;
    while ((next = strstr(last_pause + 1, " pause")))
        last_pause = next;
    assert_non_null(strstr(last_pause, " resume")); /* the writer writes */
}

static char *plan_to(const char *deployment, const char *to, char *buf, size_t size)
{
    PB(RollbackCommand) c = command(deployment);
    c.to_version = (char *)to;
    struct reply r = order("plan", &c);
    snprintf(buf, size, "%s", r.plan ? r.plan->to_name : r.message);
    reply_free(&r);
    return buf;
}

static const char *broken_of(const char *deployment, const char *version)
{
    const PB(DeployedVersion) *v = version_of(last(deployment), version);
    return v ? v->broken : "";
}

/* The newest alert of this key is open, or is not. */
static const PB(Alert) * open_alert(const char *deployment, const char *what)
{
    char key[128];
    snprintf(key, sizeof key, "rollback/%s/%s", deployment, what);
    for (size_t i = T.n_alerts; i-- > 0;)
        if (strcmp(T.alert[i]->dedup_key, key) == 0)
            return T.alert[i]->resolved ? NULL : T.alert[i];
    return NULL;
}

/* Kept versions that others have taken are noticed before they are needed. After drained_while_paused: there is a snapshot of v2. */
static void kept_that_is_gone(void **state)
{
    (void)state;
    const char *name = "d-data";
    struct world *w = world(name);
    char text[700], from[700], to[700];
    const PB(Alert) * a;
    world_deploy(w, "v2", 2);
    WAIT(is_current(name, "v2", true));
    world_deploy(w, "v3", 2);
    WAIT(is_current(name, "v3", true) && version_of(last(name), "v2")->kept && version_of(last(name), "v1")->kept);
    assert_string_equal(plan_to(name, "", text, sizeof text), "v2");
    world_file(w, "fail-check-v2", "the image of v2 is not on this host: pull it");
    T.check_kept = "300ms";
    write_settings(false, "2s");
    for (int i = 0; i < 2; i++)
        kill(T.replica[i]->pid, SIGHUP);
    WAIT((a = open_alert(name, "kept/v2")) && *broken_of(name, "v2"));
    assert_int_equal(a->severity, E(SEVERITY__SEVERITY_WARNING));
    assert_non_null(strstr(a->summary, "the image of v2 is not on this host"));
    assert_non_null(strstr(broken_of(name, "v2"), "pull it"));
    assert_string_equal(plan_to(name, "", text, sizeof text), "v1");
    assert_string_equal(plan_to(name, "v2", text, sizeof text), "v2"); /* by name it is tried */
    world_file(w, "fail-check-v1", "its registry has lost it");
    WAIT((a = open_alert(name, "kept/v1")) && a->severity == E(SEVERITY__SEVERITY_HIGH) &&
         open_alert(name, "kept/v2")->severity == E(SEVERITY__SEVERITY_HIGH) && *broken_of(name, "v1"));
    assert_non_null(strstr(plan_to(name, "", text, sizeof text), "cannot be brought up"));
    world_file(w, "fail-check-v1", NULL);
    world_file(w, "fail-check-v2", NULL);
    WAIT(!open_alert(name, "kept/v1") && !open_alert(name, "kept/v2") && !*broken_of(name, "v2"));
    /* The snapshot of v2. */
    snprintf(from, sizeof from, "%s/store/00000000", w->dir);
    snprintf(to, sizeof to, "%s/00000000", w->dir);
    assert_int_equal(rename(from, to), 0);
    WAIT((a = open_alert(name, "kept/v2")) && *broken_of(name, "v2"));
    assert_int_equal(a->severity, E(SEVERITY__SEVERITY_WARNING));
    assert_non_null(strstr(a->summary, "snapshot 00000000"));
    assert_true(version_of(last(name), "v2")->snapshot_gone);
    assert_string_equal(plan_to(name, "", text, sizeof text), "v2"); /* with the data as they are */
    assert_int_equal(rename(to, from), 0);
    WAIT(!open_alert(name, "kept/v2") && !*broken_of(name, "v2"));
}

/* Settings that a backend cannot be opened with are refused before anything runs by them. */
static void settings_that_cannot_be(void **state)
{
    (void)state;
    char path[700], command_line[1400], said[2000] = "";
    snprintf(path, sizeof path, "%s/bad.yaml", harness_dir(T.h));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nrollback:\n  "
            "exec_allowed: [%s]\n"
            "  deployments:\n    - name: d-bad\n      executor: exec\n      exec: { view: [%s], up: [/bin/sh], stop: "
            "[%s], start: [%s], "
            "remove: [%s] }\n",
            T.nats->url, T.redis->port, harness_dir(T.h), T.worlds.program, T.worlds.program, T.worlds.program,
            T.worlds.program, T.worlds.program);
    fclose(f);
    snprintf(command_line, sizeof command_line, "%s --check -c %s 2>&1", T.program, path);
    f = popen(command_line, "r");
    assert_non_null(f);
    size_t n = fread(said, 1, sizeof said - 1, f);
    said[n] = '\0';
    int end = pclose(f);
    assert_true(WIFEXITED(end) && WEXITSTATUS(end) == 2);
    if (!strstr(said, "d-bad") || !strstr(said, "exec_allowed"))
        fail_msg("%s", said);
    /* Nor are they taken over. */
    snprintf(command_line, sizeof command_line, "cp %s %s.good && cp %s %s", T.config, T.config, path, T.config);
    assert_int_equal(system(command_line), 0);
    kill(T.replica[0]->pid, SIGHUP);
    kill(T.replica[1]->pid, SIGHUP);
    WAIT(log_says("rollback-0.log", "d-bad") && log_says("rollback-1.log", "d-bad"));
    PB(RollbackCommand) c = command("d-whole");
    struct reply r = order("state", &c);
    EXPECT(r, STATUS(OK));
    reply_free(&r);
    snprintf(command_line, sizeof command_line, "mv %s.good %s", T.config, T.config);
    assert_int_equal(system(command_line), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_changes_nothing),
        cmocka_unit_test(a_whole_job),
        cmocka_unit_test(traffic_astray),
        cmocka_unit_test(refused_before_anything),
        cmocka_unit_test(orders),
        cmocka_unit_test(killed_in_each_phase),
        cmocka_unit_test(redis_emptied),
        cmocka_unit_test(bus_away),
        cmocka_unit_test(frozen_replica),
        cmocka_unit_test(drained_while_paused),
        cmocka_unit_test(kept_that_is_gone),
        cmocka_unit_test(settings_that_cannot_be),
        cmocka_unit_test(reload),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
