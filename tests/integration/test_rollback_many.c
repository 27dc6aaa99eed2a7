/* test_rollback_many.c - 200 deployments at rest beside one job: no tilt, all of them are looked at in time, and the job goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rollback_town.h"

enum { AT_REST = 200, OBSERVE_MS = 4000, LIMIT_MS = 3 * HARNESS_WAIT_MS };
#define JOB "job"

/* Says that it was asked, and when. */
static const char rest_program[] =
    "#!/bin/sh\n"
    "read -r up idle < /proc/uptime\n"
    "echo \"$2 $up\" >> \"$1\"\n"
    "echo '{\"versions\":[{\"name\":\"v1\",\"digest\":\"sha256:v1\",\"spec\":{\"image\":\"a\"}}],\"instances\":"
    "[{\"handle\":\"h\",\"version\":\"v1\",\"side\":0,\"running\":true,\"ready\":true}]}'\n";

static struct {
    struct harness *h;
    struct worlds worlds;
    natsConnection *nc;
    natsSubscription *changes;
    bool verified, v2;
    int phase;
    char looks[600];
    unsigned n[AT_REST];
    double last[AT_REST], longest;
} T;

static void take_in(void)
{
    natsMsg *m = NULL;
    while (natsSubscription_NextMsg(&m, T.changes, 20) == NATS_OK) {
        struct err e;
        PB(RollbackChanged) *c =
            wire_unpack(PB_DESC(rollback_changed), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
        assert_non_null(c);
        for (size_t i = 0; i < c->n_versions && strcmp(c->deployment, JOB) == 0; i++) {
            const PB(DeployedVersion) *v = c->versions[i];
            bool current = strcmp(v->id, c->current_version) == 0;
            T.v2 |= current && strcmp(v->name, "v2") == 0;
            T.verified |= current && strcmp(v->name, "v1") == 0 &&
                          v->state == REDOUBT__V1__VERSION_STATE__VERSION_STATE_VERIFIED;
        }
        if (strcmp(c->deployment, JOB) == 0)
            T.phase = (int)c->phase;
        wire_free(c);
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

/* Beside this test: build/tests/integration/test_x -> build/bin. */
static void program_path(char *buf, size_t size)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    for (int i = 0; i < 3; i++)
        *strrchr(self, '/') = '\0';
    snprintf(buf, size, "%s/bin/redoubt-rollback", self);
}

/* True when each has been looked at twice; the longest time between two looks is kept. */
static bool looked_at_all(void)
{
    unsigned i, all = 0;
    double at;
    FILE *f = fopen(T.looks, "r");
    memset(T.n, 0, sizeof T.n);
    T.longest = 0;
    while (f && fscanf(f, "%u %lf\n", &i, &at) == 2) {
        assert_true(i < AT_REST);
        if (T.n[i]++ > 0 && at - T.last[i] > T.longest)
            T.longest = at - T.last[i];
        T.last[i] = at;
        all += T.n[i] == 2;
    }
    if (f)
        fclose(f);
    return all == AT_REST;
}

static const char *settings(const char *rest, int nats_port, int redis_port)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/redoubt.yaml", harness_dir(T.h));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"nats://127.0.0.1:%d\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\n"
            "rollback:\n  observe: %dms\n  at_once: 4\n  exec_allowed: [%s, %s]\n  deployments:\n",
            nats_port, redis_port, harness_dir(T.h), OBSERVE_MS, T.worlds.program, rest);
    world_settings(&T.worlds, &T.worlds.w[0], f);
    fprintf(f, "      steps: [100%%, 50%%, 0%%]\n      step: 300ms\n      check_every: 100ms\n      drain: 100ms\n"
               "      watch: 300ms\n      settle: 200ms\n");
    for (unsigned i = 0; i < AT_REST; i++)
        fprintf(
            f,
            "    - name: rest-%u\n      executor: exec\n      exec: { view: [%s, %s, '%u'], check: [%s], up: [%s], "
            "stop: [%s], start: [%s], remove: [%s] }\n",
            i, rest, T.looks, i, rest, rest, rest, rest, rest);
    fclose(f);
    return path;
}

static void start_job(void)
{
    PB(RollbackCommand) c = PB_INIT(ROLLBACK_COMMAND);
    struct err e = {""};
    size_t len;
    natsMsg *m = NULL;
    c.deployment = (char *)JOB;
    c.by = (char *)"test";
    c.reason = (char *)"beside many others";
    c.job_id = (char *)"many-1";
    void *data = wire_pack(&c, &len, &e);
    assert_non_null(data);
    assert_int_equal(natsConnection_Request(&m, T.nc, SUBJECT_CMD "rollback.start", data, (int)len, LIMIT_MS),
                     NATS_OK);
    free(data);
    PB(CommandReply) *r =
        wire_unpack(PB_DESC(command_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    assert_non_null(r);
    assert_int_equal(r->status, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK);
    wire_free(r);
    natsMsg_Destroy(m);
}

static void many_at_rest_and_a_job(void **state)
{
    char rest[600], log[700], line[1000], program[600];
    (void)state;
    T.h = harness_open();
    struct harness_proc *nats = harness_nats(T.h, "nats", NULL), *redis = harness_redis(T.h, "redis", NULL);
    worlds_open(&T.worlds, T.h);
    struct world *w = world_add(&T.worlds, T.h, JOB);
    world_deploy(w, "v1", 1);
    snprintf(rest, sizeof rest, "%s/rest", harness_dir(T.h));
    snprintf(T.looks, sizeof T.looks, "%s/looks", harness_dir(T.h));
    world_write(rest, rest_program, 0755);
    assert_int_equal(natsConnection_ConnectTo(&T.nc, nats->url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.changes, T.nc, SUBJECT_ROLLBACK "*"), NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    program_path(program, sizeof program);
    struct harness_proc *p =
        harness_run(T.h, "one", 0, (const char *[]){program, "-c", settings(rest, nats->port, redis->port), NULL});
    WAIT(T.verified);
    world_deploy(w, "v2", 1);
    WAIT(T.v2);
    start_job();
    WAIT(T.phase == REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_DONE);
    int side = world_running(w, "v1", 1) > 0;
    assert_int_equal(world_running(w, "v1", side), 1);
    assert_int_equal(world_instances(w), 1);
    assert_int_equal(world_share(&T.worlds, w, side), 100);
    assert_int_equal(world_holder(w), p->pid);
    WAIT(looked_at_all());
    assert_true(T.longest < 2.0 * OBSERVE_MS / 1000);
    assert_int_equal(harness_stop(p), 0);
    snprintf(log, sizeof log, "%s.log", p->data);
    FILE *f = fopen(log, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, "tilt:") || strstr(line, "restored") ||
            (strstr(line, "rest-") && strstr(line, "it is over")))
            fail_msg("it says: %s", line);
    }
    fclose(f);
    natsSubscription_Destroy(T.changes);
    natsConnection_Destroy(T.nc);
    MHD_stop_daemon(T.worlds.web);
    harness_close(T.h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_at_rest_and_a_job)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
