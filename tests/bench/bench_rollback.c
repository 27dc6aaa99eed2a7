/* bench_rollback.c - what redoubt-rollback costs: per step of a job beyond its observation, and in memory.
 *
 * Versions are made and stopped by a shell script, and traffic is divided by a web server of this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../integration/rollback_town.h"
#include "bench.h"
#include <errno.h>
#include <time.h>

enum { STEPS = 11, LIMIT_S = 180 };
#define JOB        "bench-job"
#define STEP_MS    1000
#define ALLOWED_MS 1000 /* own overhead per step, at most */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t heard;
    bool verified; /* the job's v1 */
    bool v2;
    unsigned phase;
    double overhead_ms[STEPS];
    bool seen[STEPS];
} A = {.lock = PTHREAD_MUTEX_INITIALIZER, .heard = PTHREAD_COND_INITIALIZER};

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

/* ---- what is heard ---- */

static void job_changed(const PB(RollbackChanged) * c)
{
    for (size_t i = 0; i < c->n_versions; i++) {
        const PB(DeployedVersion) *v = c->versions[i];
        if (strcmp(v->id, c->current_version) != 0)
            continue;
        A.v2 |= strcmp(v->name, "v2") == 0;
        A.verified |= strcmp(v->name, "v1") == 0 && v->state == REDOUBT__V1__VERSION_STATE__VERSION_STATE_VERIFIED;
    }
    A.phase = c->phase;
    if (c->phase == REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_SHIFT &&
        c->stage == REDOUBT__V1__ROLLBACK_STAGE__ROLLBACK_STAGE_OBSERVE && c->step < STEPS && !A.seen[c->step]) {
        A.seen[c->step] = true;
        A.overhead_ms[c->step] = (double)c->overhead_ms;
    }
}

static void on_changed(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *ctx)
{
    struct err e;
    (void)nc, (void)sub, (void)ctx;
    PB(RollbackChanged) *c =
        wire_unpack(PB_DESC(rollback_changed), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!c)
        give_up(natsMsg_GetSubject(m), e.text);
    pthread_mutex_lock(&A.lock);
    if (strcmp(c->deployment, JOB) == 0)
        job_changed(c);
    pthread_cond_broadcast(&A.heard);
    pthread_mutex_unlock(&A.lock);
    wire_free(c);
    natsMsg_Destroy(m);
}

static bool v1_verified(void)
{
    return A.verified;
}

static bool v2_known(void)
{
    return A.v2;
}

static bool job_over(void)
{
    return A.phase == REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_DONE;
}

static void await(bool (*fn)(void), const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_S;
    pthread_mutex_lock(&A.lock);
    while (!fn())
        if (pthread_cond_timedwait(&A.heard, &A.lock, &until) == ETIMEDOUT)
            give_up(what, "not within three minutes");
    pthread_mutex_unlock(&A.lock);
}

/* ---- the stack ---- */

static const char *write_settings(struct harness *h, const struct worlds *all, const char *nats, int redis)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(h));
    FILE *f = fopen(path, "w");
    if (!f)
        give_up(path, strerror(errno));
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: "
            "1s\nrollback:\n"
            "  exec_allowed: [%s]\n  deployments:\n",
            nats, redis, harness_dir(h), all->program);
    world_settings(all, &all->w[0], f);
    fprintf(f,
            "      steps: [100%%, 90%%, 80%%, 70%%, 60%%, 50%%, 40%%, 30%%, 20%%, 10%%, 0%%]\n      step: %dms\n     "
            " check_every: 500ms\n"
            "      drain: 100ms\n      watch: 500ms\n      settle: 1s\n",
            STEP_MS);
    fclose(f);
    return path;
}

static void start_job(natsConnection *nc)
{
    PB(RollbackCommand) c = PB_INIT(ROLLBACK_COMMAND);
    struct err e = {""};
    size_t len;
    natsMsg *m = NULL;
    c.deployment = (char *)JOB;
    c.by = (char *)"bench";
    c.reason = (char *)"how long a step takes";
    c.job_id = (char *)"bench-1";
    void *data = wire_pack(&c, &len, &e);
    if (!data || natsConnection_Request(&m, nc, SUBJECT_CMD "rollback.start", data, (int)len, 30000) != NATS_OK)
        give_up("start", data ? "nobody answers" : e.text);
    free(data);
    PB(CommandReply) *r =
        wire_unpack(PB_DESC(command_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    if (!r || r->status != REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK)
        give_up("start", r ? r->message : e.text);
    wire_free(r);
    natsMsg_Destroy(m);
}

int main(int argc, char **argv)
{
    struct bench *b = bench_open(argc, argv);
    struct harness *h = harness_open();
    struct harness_proc *nats = harness_nats(h, "nats", NULL), *redis = harness_redis(h, "redis", NULL);
    static struct worlds all;
    natsConnection *nc = NULL;
    natsSubscription *sub = NULL;
    worlds_open(&all, h);
    struct world *w = world_add(&all, h, JOB);
    world_deploy(w, "v1", 2);
    if (natsConnection_ConnectTo(&nc, nats->url) != NATS_OK ||
        natsConnection_Subscribe(&sub, nc, SUBJECT_ROLLBACK "*", on_changed, NULL) != NATS_OK ||
        natsConnection_Flush(nc) != NATS_OK)
        give_up("nats", "no connection");
    const char *program = bench_program(b, "redoubt-rollback");

    printf("rollback: one deployment, a job of %d steps...\n", STEPS);
    fflush(stdout);
    struct harness_proc *p = harness_run(
        h, "one", 0, (const char *[]){program, "-c", write_settings(h, &all, nats->url, redis->port), NULL});
    await(v1_verified, "v1");
    world_deploy(w, "v2", 2);
    await(v2_known, "v2");
    double rss = bench_rss(p->pid);
    if ((pid_t)world_holder(w) != p->pid)
        give_up("view", "asked by somebody else");
    start_job(nc);
    await(job_over, "the job");
    int side = world_running(w, "v1", 1) > 0;
    if (world_running(w, "v1", side) != 2 || world_instances(w) != 2 || world_share(&all, w, side) != 100)
        give_up("the job", "v1 does not carry everything, or something is left over");
    unsigned n = 0;
    double steps[STEPS];
    for (unsigned i = 1; i < STEPS; i++) /* the first follows no other */
        if (A.seen[i])
            steps[n++] = A.overhead_ms[i];
    if (n < STEPS - 1)
        give_up("the job", "not every step was announced");
    bench_row(b, "rollback: own overhead per step (gate, set, read back), p50", "ms", bench_percentile(steps, n, 50),
              "allowed", ALLOWED_MS, 1);
    bench_row(b, "rollback: the same, the longest", "ms", bench_percentile(steps, n, 100), "allowed", ALLOWED_MS, 1);
    bench_row(b, "rollback: memory with one deployment", "MB", rss / 1e6, "", 0, 0);
    harness_stop(p);

    natsSubscription_Destroy(sub);
    natsConnection_Destroy(nc);
    MHD_stop_daemon(all.web);
    harness_close(h);
    return bench_close(b);
}
