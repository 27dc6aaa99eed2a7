/* test_rollback_judged.c - redoubt-rollback with checks, whole: what the agents answer decides what becomes of a job, and whether one begins by itself.
 *
 * Versions are made and stopped by a small program, traffic is divided by a web server, and the agents' answers are this test's: what v1 and v2 of each
 * deployment decide, and how many of their calls fail. */
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
#define HOLD(x)   ((int)REDOUBT__V1__ROLLBACK_HOLD__ROLLBACK_HOLD_##x)
#define STATUS(x) ((int)REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x)
#define LIMIT_MS  (3 * HARNESS_WAIT_MS) /* sanitised, and with others on the same cores */
#define SEEN_MAX  8192

enum { SECURITY, ERRORS, SILENT, AUTOMATIC, DEPLOYMENTS };
static const char *const names[DEPLOYMENTS] = {"j-security", "j-errors", "j-silent", "j-automatic"};

/* How the version answers. */
struct agent {
    const char *decision; /* NULL = it hangs up */
    unsigned bad, all;    /* counters */
    unsigned fails;       /* of 100 calls between two looks */
};
static struct {
    struct harness *h;
    struct harness_proc *nats, *redis, *replica;
    natsConnection *nc;
    natsSubscription *changes, *alerts;
    char config[600], program[512];
    struct worlds worlds;
    struct MHD_Daemon *web;
    int port;
    pthread_mutex_t lock;
    struct agent agents[DEPLOYMENTS][2]; /* v1, v2 */
    PB(RollbackChanged) * change[SEEN_MAX];
    size_t n_changes;
    PB(Alert) * alert[SEEN_MAX];
    size_t n_alerts;
    unsigned orders;
} T;

/* ---- the agents ---- */

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *k, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **own)
{
    static int seen;
    char answer[128] = "{}";
    unsigned status = 404;
    bool hangs_up = false;
    (void)ctx, (void)method, (void)version, (void)data;
    if (!*own) {
        *own = &seen;
        return MHD_YES;
    }
    if (*size > 0) {
        *size = 0;
        return MHD_YES;
    }
    pthread_mutex_lock(&T.lock);
    for (int i = 0; i < 2 * DEPLOYMENTS; i++) {
        struct agent *a = &T.agents[i / 2][i % 2];
        char path[2][80];
        snprintf(path[0], sizeof path[0], "/%s/v%d/decide", names[i / 2], i % 2 + 1);
        snprintf(path[1], sizeof path[1], "/%s/v%d/stats", names[i / 2], i % 2 + 1);
        if (strcmp(url, path[0]) == 0) {
            status = 200;
            hangs_up = !a->decision;
            snprintf(answer, sizeof answer, "{\"decision\": \"%s\"}", a->decision ? a->decision : "");
        } else if (strcmp(url, path[1]) == 0) {
            status = 200;
            a->all += 100;
            a->bad += a->fails;
            snprintf(answer, sizeof answer, "{\"bad\": %u, \"all\": %u}", a->bad, a->all);
        }
    }
    pthread_mutex_unlock(&T.lock);
    if (hangs_up)
        return MHD_NO;
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(answer), answer, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ok = MHD_queue_response(k, status, r);
    MHD_destroy_response(r);
    return ok;
}

static void decides(int deployment, int v, const char *decision)
{
    pthread_mutex_lock(&T.lock);
    T.agents[deployment][v - 1].decision = decision;
    pthread_mutex_unlock(&T.lock);
}

static void fails(int deployment, int v, unsigned of_100)
{
    pthread_mutex_lock(&T.lock);
    T.agents[deployment][v - 1].fails = of_100;
    pthread_mutex_unlock(&T.lock);
}

/* ---- seeing and asking ---- */

static void take_in(void)
{
    natsMsg *m = NULL;
    struct err e;
    int64_t wait_ms = 5;
    for (; natsSubscription_NextMsg(&m, T.changes, wait_ms) == NATS_OK; wait_ms = 1) {
        assert_true(T.n_changes < SEEN_MAX);
        assert_non_null(T.change[T.n_changes] = wire_unpack(PB_DESC(rollback_changed), natsMsg_GetData(m),
                                                            (size_t)natsMsg_GetDataLength(m), &e));
        T.n_changes++;
        natsMsg_Destroy(m);
    }
    while (natsSubscription_NextMsg(&m, T.alerts, 1) == NATS_OK) {
        assert_true(T.n_alerts < SEEN_MAX);
        assert_non_null(T.alert[T.n_alerts] =
                            wire_unpack(PB_DESC(alert), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e));
        T.n_alerts++;
        natsMsg_Destroy(m);
    }
}

static const PB(RollbackChanged) * last(int deployment)
{
    const PB(RollbackChanged) *best = NULL;
    for (size_t i = 0; i < T.n_changes; i++)
        if (strcmp(T.change[i]->deployment, names[deployment]) == 0 && (!best || T.change[i]->epoch > best->epoch))
            best = T.change[i];
    return best;
}

static int phase_of(int deployment)
{
    const PB(RollbackChanged) *c = last(deployment);
    return c ? (int)c->phase : 0;
}

static const char *reason_of(int deployment)
{
    const PB(RollbackChanged) *c = last(deployment);
    return c && c->reason ? c->reason : "";
}

#define WAIT(d, cond)                                                                                                \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + LIMIT_MS;                                                                \
        while (take_in(), !(cond))                                                                                   \
            if (clock_mono_ms() > end_ms_)                                                                           \
                fail_msg("waited in vain for: %s; %s is in phase %d: %s", #cond, names[d], phase_of(d),              \
                         reason_of(d));                                                                              \
    } while (0)

static const PB(CheckResult) * check_of(int deployment)
{
    const PB(RollbackChanged) *c = last(deployment);
    return c && c->n_checks > 0 ? c->checks[0] : NULL;
}

static bool is_current(int deployment, const char *version, bool verified)
{
    const PB(RollbackChanged) *c = last(deployment);
    for (size_t i = 0; c && i < c->n_versions; i++)
        if (strcmp(c->versions[i]->name, version) == 0 && strcmp(c->current_version, c->versions[i]->id) == 0)
            return !verified || c->versions[i]->state == E(VERSION_STATE__VERSION_STATE_VERIFIED);
    return false;
}

static bool all_current(const char *version, bool verified)
{
    for (int i = 0; i < DEPLOYMENTS; i++)
        if (!is_current(i, version, verified))
            return false;
    return true;
}

static const PB(Alert) * alert_of(int deployment, const char *what)
{
    char key[128];
    snprintf(key, sizeof key, "rollback/%s/%s", names[deployment], what);
    for (size_t i = T.n_alerts; i-- > 0;)
        if (strcmp(T.alert[i]->dedup_key, key) == 0 && !T.alert[i]->resolved)
            return T.alert[i];
    return NULL;
}

static int give(const char *verb, int deployment, bool force)
{
    char subject[128], id[32];
    struct err e;
    size_t len;
    natsMsg *m = NULL;
    PB(RollbackCommand) c = PB_INIT(ROLLBACK_COMMAND);
    snprintf(id, sizeof id, "job-%u", ++T.orders);
    c.deployment = (char *)names[deployment];
    c.by = (char *)"ada";
    c.reason = (char *)"v2 misjudges";
    c.job_id = strcmp(verb, "start") == 0 ? id : (char *)"";
    c.force = force;
    snprintf(subject, sizeof subject, SUBJECT_CMD "rollback.%s", verb);
    void *data = wire_pack(&c, &len, &e);
    assert_non_null(data);
    natsStatus st = natsConnection_Request(&m, T.nc, subject, data, (int)len, LIMIT_MS);
    free(data);
    assert_int_equal(st, NATS_OK);
    PB(CommandReply) *x =
        wire_unpack(PB_DESC(command_reply), natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), &e);
    natsMsg_Destroy(m);
    assert_non_null(x);
    int status = (int)x->status;
    if (status != STATUS(OK))
        print_message("%s: %s\n", verb, x->message);
    wire_free(x);
    return status;
}

/* ---- the stack ---- */

static void write_settings(void)
{
    FILE *f = fopen(T.config, "w");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\ntilt_hold: 1s\n"
            "rollback:\n  observe: 1s\n  exec_allowed: [%s]\n  deployments:\n",
            T.nats->url, T.redis->port, harness_dir(T.h), T.worlds.program);
    for (int i = 0; i < DEPLOYMENTS; i++) {
        world_settings(&T.worlds, &T.worlds.w[i], f);
        fprintf(
            f, "      steps: [100%%, 50%%, 0%%]\n      step: 1200ms\n      check_every: 200ms\n      drain: 100ms\n  "
               "    watch: 500ms\n"
               "      settle: 200ms\n      capacity_wait: 20s\n      checks:\n");
        if (i == ERRORS)
            fprintf(f,
                    "        - {name: shares, type: json, url: 'http://127.0.0.1:%d/%s/{{version}}/stats', query: "
                    "$.bad, query_total: $.all}\n",
                    T.port, names[i]);
        else
            fprintf(f,
                    "        - {name: known, type: known, class: security, url: "
                    "'http://127.0.0.1:%d/%s/{{version}}/decide', body: '{}', "
                    "expect_json: [{path: $.decision, equals: block}]}\n",
                    T.port, names[i]);
        if (i == AUTOMATIC)
            fprintf(f, "      automatic: {enabled: true, within: 1h}\n");
    }
    fclose(f);
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

static int set_up(void **state)
{
    (void)state;
    find_program();
    T.h = harness_open();
    T.nats = harness_nats(T.h, "nats", NULL);
    T.redis = harness_redis(T.h, "redis", NULL);
    pthread_mutex_init(&T.lock, NULL);
    T.port = harness_free_port();
    T.web = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)T.port, NULL, NULL, on_request, NULL,
                             MHD_OPTION_END);
    assert_non_null(T.web);
    snprintf(T.config, sizeof T.config, "%s/redoubt.yaml", harness_dir(T.h));
    worlds_open(&T.worlds, T.h);
    for (int i = 0; i < DEPLOYMENTS; i++) {
        decides(i, 1, "block");
        decides(i, 2, "block");
        world_deploy(world_add(&T.worlds, T.h, names[i]), "v1", 2);
    }
    write_settings();
    assert_int_equal(natsConnection_ConnectTo(&T.nc, T.nats->url), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.changes, T.nc, SUBJECT_ROLLBACK "*"), NATS_OK);
    assert_int_equal(natsConnection_SubscribeSync(&T.alerts, T.nc, SUBJECT_ALERT), NATS_OK);
    assert_int_equal(natsConnection_Flush(T.nc), NATS_OK);
    T.replica = harness_run(T.h, "rollback", 0, (const char *[]){T.program, "-c", T.config, NULL});
    WAIT(0, all_current("v1", true));
    assert_int_equal(world_holder(&T.worlds.w[0]), T.replica->pid);
    for (int i = 0; i < DEPLOYMENTS; i++)
        world_deploy(&T.worlds.w[i], "v2", 2);
    WAIT(0, all_current("v2", true));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int end = harness_stop(T.replica);
    for (size_t i = 0; i < T.n_changes; i++)
        wire_free(T.change[i]);
    for (size_t i = 0; i < T.n_alerts; i++)
        wire_free(T.alert[i]);
    natsSubscription_Destroy(T.changes);
    natsSubscription_Destroy(T.alerts);
    natsConnection_Destroy(T.nc);
    nats_Close();
    MHD_stop_daemon(T.worlds.web);
    MHD_stop_daemon(T.web);
    harness_close(T.h);
    return end == 0 ? 0 : -1; /* drained */
}

/* ---- tests ---- */

/* The first wrong decision: the job holds where it is, and nothing more by itself. */
static void a_security_regression(void **state)
{
    (void)state;
    struct world *w = &T.worlds.w[SECURITY];
    assert_int_equal(give("start", SECURITY, false), STATUS(OK));
    WAIT(SECURITY, phase_of(SECURITY) == PHASE(SHIFT) && last(SECURITY)->weight_percent == 50);
    decides(SECURITY, 1, "allow");
    WAIT(SECURITY, phase_of(SECURITY) == PHASE(HOLD));
    const PB(RollbackChanged) *c = last(SECURITY);
    assert_int_equal(c->hold, HOLD(REGRESSION));
    assert_int_equal(c->weight_percent, 50); /* in the step that showed it */
    assert_non_null(strstr(c->reason, "$.decision is `allow`, not `block`"));
    assert_int_equal(check_of(SECURITY)->outcome, E(CHECK_OUTCOME__CHECK_OUTCOME_FAILED));
    WAIT(SECURITY, alert_of(SECURITY, "hold"));
    assert_int_equal(alert_of(SECURITY, "hold")->severity, E(SEVERITY__SEVERITY_CRITICAL));
    assert_int_equal(world_share(&T.worlds, w, 0), 50);
    assert_int_equal(world_running(w, "v1", 1), 2); /* both stand */
    assert_int_equal(world_running(w, "v2", 0), 2);
    assert_int_equal(give("resume", SECURITY, false), STATUS(INVALID)); /* not without a person who insists */
    assert_int_equal(give("abort", SECURITY, false), STATUS(OK));
    WAIT(SECURITY, phase_of(SECURITY) == PHASE(ABORTED));
    assert_int_equal(world_share(&T.worlds, w, 0), 100);
    assert_int_equal(world_instances(w), 2);
    assert_int_equal(world_running(w, "v2", 0), 2);
    decides(SECURITY, 1, "block");
}

/* More failures than the former version has, four looks in a row; a person insists, and it is better then. */
static void more_failures(void **state)
{
    (void)state;
    fails(ERRORS, 1, 2);
    fails(ERRORS, 2, 2);
    assert_int_equal(give("start", ERRORS, false), STATUS(OK));
    WAIT(ERRORS, phase_of(ERRORS) == PHASE(SHIFT) && last(ERRORS)->weight_percent == 50);
    fails(ERRORS, 1, 60);
    WAIT(ERRORS, phase_of(ERRORS) == PHASE(HOLD));
    assert_int_equal(last(ERRORS)->hold, HOLD(REGRESSION));
    assert_true(check_of(ERRORS)->in_a_row >= 4);
    assert_non_null(strstr(check_of(ERRORS)->detail, "of the former version"));
    assert_true(last(ERRORS)->weight_percent == 50 || last(ERRORS)->weight_percent == 0);
    WAIT(ERRORS, alert_of(ERRORS, "hold"));
    fails(ERRORS, 1, 2);
    assert_int_equal(give("resume", ERRORS, true), STATUS(OK));
    WAIT(ERRORS, phase_of(ERRORS) == PHASE(DONE));
    assert_true(is_current(ERRORS, "v1", false));
}

/* argo-rollouts 3850: what said nothing was promoted. */
static void silence(void **state)
{
    (void)state;
    struct world *w = &T.worlds.w[SILENT];
    assert_int_equal(give("start", SILENT, false), STATUS(OK));
    WAIT(SILENT, phase_of(SILENT) == PHASE(SHIFT) && last(SILENT)->weight_percent == 50);
    decides(SILENT, 1, NULL);
    WAIT(SILENT, phase_of(SILENT) == PHASE(HOLD));
    assert_int_equal(last(SILENT)->hold, HOLD(NO_DATA));
    assert_non_null(strstr(last(SILENT)->reason, "known"));
    assert_true(world_share(&T.worlds, w, 0) == 50 || world_share(&T.worlds, w, 0) == 0);
    assert_int_equal(world_running(w, "v2", 0), 2);
    decides(SILENT, 1, "block");
    assert_int_equal(give("resume", SILENT, false), STATUS(OK));
    WAIT(SILENT, phase_of(SILENT) == PHASE(DONE));
}

/* Without a person, where that is allowed; and never away from what a rollback has brought. */
static void by_itself(void **state)
{
    (void)state;
    decides(AUTOMATIC, 2, "allow");
    WAIT(AUTOMATIC, phase_of(AUTOMATIC) == PHASE(DONE) && is_current(AUTOMATIC, "v1", false));
    assert_string_not_equal(last(AUTOMATIC)->history[0]->started_by, "ada");
    size_t jobs = last(AUTOMATIC)->n_history;
    WAIT(AUTOMATIC, is_current(AUTOMATIC, "v1", true));
    decides(AUTOMATIC, 1, "allow");
    WAIT(AUTOMATIC, alert_of(AUTOMATIC, "regression"));
    WAIT(AUTOMATIC, strstr(alert_of(AUTOMATIC, "regression")->detail, "v1 is worse") ||
                        strstr(alert_of(AUTOMATIC, "regression")->summary, "v1 is worse"));
    for (int i = 0; i < 200; i++) /* a second of looks: nothing begins */
        take_in();
    assert_int_equal(last(AUTOMATIC)->n_history, jobs);
    assert_int_equal(phase_of(AUTOMATIC), PHASE(DONE));
    /* Nor where it is not allowed. */
    decides(SECURITY, 2, "allow");
    WAIT(SECURITY, alert_of(SECURITY, "regression"));
    assert_int_equal(phase_of(SECURITY), PHASE(ABORTED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_security_regression),
        cmocka_unit_test(more_failures),
        cmocka_unit_test(silence),
        cmocka_unit_test(by_itself),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
