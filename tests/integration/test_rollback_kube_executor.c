/* test_rollback_kube_executor.c - versions as Deployments, against an API server that behaves as the real one does, and in every wrong way. */
#include "kube_kit.h"

static void start_pair(struct town *t)
{
    deploy(t, "stable", "reg.example/agent:v1", 3, "", "", "", "");
    deploy(t, "canary", "reg.example/agent:v1", 0, "", "", "", "");
    open_all(t, "canary");
}

/* v1 is recorded; v2 is what runs. */
static struct seen record_then_deploy(struct town *t, struct seen *s)
{
    struct seen v1 = {0};
    wait_ready(t, &v1, 3, 0);
    assert_int_equal(v1.n_versions, 1);
    deploy(t, "stable", "reg.example/agent:v2", 3, "", "", "", "");
    int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS;
    do
        wait_ready(t, s, 3, 0);
    while (strcmp(s->versions[0].v.name, "v2") != 0 && clock_mono_ms() < end_ms);
    assert_string_equal(s->versions[0].v.name, "v2");
    return v1;
}

static void a_pair_carries_two_versions(void **state)
{
    struct town *t = *state;
    struct seen s = {0};
    start_pair(t);
    control(t, "{'cut':120}");
    struct seen old = record_then_deploy(t, &s);
    const struct seen_version *v1 = &old.versions[0];
    assert_string_equal(v1->v.name, "v1");
    assert_int_equal(strlen(v1->v.digest), 71);
    assert_int_equal(v1->n_gaps, 0);
    assert_string_equal(old.instances[0].address, "127.0.0.1:8080");
    assert_string_equal(old.instances[0].job, "");
    struct seen v2s = s;
    s = (struct seen){0};

    ACT(check, v1, 1, 3);
    look(t, &s);
    assert_int_equal(all_on(&s, 1), 0); /* it changed nothing */
    ACT(up, v1, 1, 3);
    wait_ready(t, &s, 3, 3);
    /* The same id, although its image is pinned to the digest now; and it is marked as ours. */
    assert_string_equal(version_on(&s, 1)->v.id, v1->v.id);
    assert_string_equal(version_on(&s, 0)->v.id, v2s.versions[0].v.id);
    for (size_t i = 0; i < s.n; i++)
        assert_string_equal(s.instances[i].job, s.instances[i].side == 1 ? "job-1" : "");
    const char *image =
        kube_text(kube_container(kube_at(object(t, "deployments/canary"), "spec.template"), ""), "image");
    assert_non_null(strstr(image, "reg.example/agent@sha256:"));
    assert_non_null(strstr(image, v1->v.digest));

    /* Asked for again: nothing is left to do. */
    int64_t generation = kube_int(object(t, "deployments/canary"), "metadata.generation", 0);
    ACT(up, v1, 1, 3);
    assert_int_equal(kube_int(object(t, "deployments/canary"), "metadata.generation", 0), generation);

    /* Stopped, still there; started again; stopped again. */
    ACT(stop, &v2s.versions[0], 0, 3);
    ACT(stop, &v2s.versions[0], 0, 3);
    int64_t end_ms = clock_mono_ms() + HARNESS_WAIT_MS;
    do
        look(t, &s);
    while (all_on(&s, 0) != 1 && clock_mono_ms() < end_ms);
    assert_int_equal(all_on(&s, 0), 1);
    assert_string_equal(version_on(&s, 0)->v.id, v2s.versions[0].v.id);
    assert_false(s.instances[0].running);
    ACT(start, &v2s.versions[0], 0, 0);
    wait_ready(t, &s, 3, 3);
    ACT(stop, &v2s.versions[0], 0, 3);

    /* Home: the former version goes, the target takes side 0, the canary is empty again. */
    ACT(remove, &v2s.versions[0], 0, 0);
    ACT(remove, &v2s.versions[0], 0, 0);
    ACT(up, v1, 0, 3);
    wait_ready(t, &s, 3, 3);
    assert_string_equal(version_on(&s, 0)->v.id, v1->v.id);
    ACT(remove, v1, 1, 0);
    wait_ready(t, &s, 3, 0);
    assert_string_equal(version_on(&s, 0)->v.name, "v1");
    assert_string_equal(kube_annotation(object(t, "deployments/canary"), "io.redoubt.state"), "");
    REFUSED(start, &v2s.versions[0], 1, 3, "brought up anew", true);

    /* Somebody deploys: our mark does not count any more. */
    deploy(t, "stable", "reg.example/agent:v3", 3, "", "", "", "");
    end_ms = clock_mono_ms() + HARNESS_WAIT_MS;
    do
        wait_ready(t, &s, 3, 0);
    while (strcmp(s.versions[0].v.name, "v3") != 0 && clock_mono_ms() < end_ms);
    assert_string_equal(s.versions[0].v.name, "v3");
    assert_string_equal(s.instances[0].job, "");
    forget_seen(&s);
    forget_seen(&old);
    forget_seen(&v2s);
}

static void configmaps_are_as_they_were(void **state)
{
    struct town *t = *state;
    struct seen s = {0}, v1 = {0};
    const char *from = ",'envFrom':[{'configMapRef':{'name':'conf'}},{'secretRef':{'name':'key'}}]";
    control(t, "{'apply':{'configmaps':[{'metadata':{'name':'conf'},'data':{'limit':'5'}}],'secrets':[{'metadata':{'"
               "name':'key'},'data':{'k':'eA=='}}]}}");
    deploy(t, "stable", "agent:v1", 2, "", "", from, "");
    deploy(t, "canary", "agent:v1", 0, "", "", "", "");
    open_all(t, "canary");
    wait_ready(t, &v1, 2, 0);
    char first[ROLLBACK_ID];
    snprintf(first, sizeof first, "%s", v1.versions[0].v.id);
    /* Another configuration is another version. */
    control(t, "{'apply':{'configmaps':[{'metadata':{'name':'conf'},'data':{'limit':'500'}}],'secrets':[{'metadata':{"
               "'name':'key'},'data':{'k':'eQ=='}}]}}");
    wait_ready(t, &s, 2, 0);
    assert_string_not_equal(s.versions[0].v.id, first);

    struct seen said = act(t, t->xk->check, &v1.versions[0], 1, 2);
    assert_true(said.ok);
    assert_non_null(strstr(said.text, "ConfigMap conf was changed since"));
    assert_non_null(strstr(said.text, "Secret key was changed since"));
    assert_int_equal(count_objects(t, "configmaps/"), 1);
    ACT(up, &v1.versions[0], 1, 2);
    wait_ready(t, &s, 2, 2);
    assert_string_equal(version_on(&s, 1)->v.id, first);
    assert_int_equal(count_objects(t, "configmaps/"), 2);
    assert_string_equal(kube_text(object(t, "configmaps/conf"), "data.limit"), "500"); /* the other's is left alone */
    const json_t *refs =
        json_object_get(kube_container(kube_at(object(t, "deployments/canary"), "spec.template"), ""), "envFrom");
    char copy[300];
    snprintf(copy, sizeof copy, "configmaps/%s", kube_text(json_array_get(refs, 0), "configMapRef.name"));
    assert_non_null(strstr(copy, "conf-rb-"));
    assert_string_equal(kube_text(object(t, copy), "data.limit"), "5");
    assert_true(json_is_true(json_object_get(object(t, copy), "immutable")));

    /* The record of what runs with a copy is the record of the original; made again, it is the same. */
    ACT(up, &v1.versions[0], 0, 2);
    wait_ready(t, &s, 2, 2);
    assert_string_equal(version_on(&s, 0)->v.id, first);
    ACT(remove, &v1.versions[0], 1, 0);
    assert_int_equal(count_objects(t, "configmaps/"), 2); /* the stable one needs it */

    /* Both as somebody deploys them anew: nobody needs the copy, and the next clearing up takes it. */
    deploy(t, "stable", "agent:v1", 2, "", "", from, "");
    deploy(t, "canary", "agent:v1", 0, "", "", from, "");
    ACT(remove, &v1.versions[0], 1, 0);
    assert_int_equal(count_objects(t, "configmaps/"), 1);

    control(t, "{'remove':{'secrets':['key']}}");
    REFUSED(check, &v1.versions[0], 1, 2, "Secret key, which version v1 needs, is not there any more", true);
    assert_int_equal(counted(t, "secrets_read"), 0);
    forget_seen(&s);
    forget_seen(&v1);
}

static void what_cannot_be_is_refused_before(void **state)
{
    struct town *t = *state;
    struct seen s = {0}, v1 = {0};
    start_pair(t);
    wait_ready(t, &v1, 3, 0);
    const struct seen_version *v = &v1.versions[0];
    control(t, "{'denied':['patch deployments','create configmaps','get secrets']}");
    REFUSED(check, v, 1, 3, "patch deployments.apps, create configmaps;", true);
    REFUSED(up, v, 1, 3, "403", true);
    control(t, "{'denied':['list pods','list horizontalpodautoscalers']}");
    look(t, &s); /* fewer rights, less to see: but seen */
    assert_true(s.ok);
    assert_int_equal(ready_on(&s, 0), 3);
    control(t, "{'denied':['list horizontalpodautoscalers','get secrets']}");
    struct seen said = act(t, t->xk->check, v, 1, 3);
    assert_true(said.ok && strstr(said.text, "could not be looked for"));
    assert_non_null(strstr(said.text, "right to get secrets"));
    control(t, "{'denied':[],'apply':{'horizontalpodautoscalers':[{'metadata':{'name':'h'},'spec':{'scaleTargetRef':{"
               "'kind':'Deployment','name':'stable'}}}]}}");
    REFUSED(check, v, 1, 3, "HorizontalPodAutoscaler h scales Deployment stable", true);
    control(t, "{'remove':{'horizontalpodautoscalers':['h']}}");
    deploy(t, "canary", "agent:v1", 0, "", "", "", ",'paused':true");
    REFUSED(check, v, 1, 3, "kubectl rollout resume deployment/canary", true);
    REFUSED(up, v, 1, 3, "kubectl rollout resume deployment/canary", true);
    deploy(t, "canary", "agent:v1", 0, "", "", "", "");
    struct seen_version broken = *v;
    broken.spec = (char *)(uintptr_t) "{\"template\":{\"spec\":{\"containers\":[{\"name\":\"agent\"}]}}}";
    REFUSED(check, &broken, 1, 3, "422", true);
    broken.spec = (char *)(uintptr_t) "{";
    REFUSED(check, &broken, 1, 3, "without a pod template", true);
    broken.spec = (char *)(uintptr_t) "{\"template\":{\"spec\":{\"containers\":[{\"name\":\"agent\",\"image\":\"a\"}]"
                                      "}},\"configmaps\":{\"big\":{\"hash\":\"00\"}}}";
    REFUSED(check, &broken, 1, 3, "its contents were not kept", true);
    control(t, "{'quota':4}");
    REFUSED(up, v, 1, 3, "exceeded quota", false);
    control(t, "{'quota':null,'remove':{'deployments':['canary']}}");
    REFUSED(check, v, 1, 3, "404", true);
    look(t, &s);
    assert_false(s.ok);
    assert_non_null(strstr(s.text, "deployments/canary"));
    forget_seen(&s);
    forget_seen(&v1);
}

static void what_passes_is_tried_again(void **state)
{
    struct town *t = *state;
    struct seen s = {0}, v1 = {0};
    start_pair(t);
    wait_ready(t, &v1, 3, 0);
    /* The token rotates: the file is read again. */
    write_token(t, "second");
    control(t, "{'token':'second'}");
    look(t, &s);
    assert_true(s.ok);
    write_token(t, "wrong");
    look(t, &s);
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "401"));
    assert_null(strstr(s.text, "wrong")); /* secrets are not told */
    write_token(t, "second");
    control(t, "{'faults':[{'times':2,'status':429,'retryAfter':0,'method':'PATCH'},{'times':1,'status':503,'method':"
               "'PATCH'},{'times':2,'match':'pods'}],"
               "'conflicts':3,'cut':60,'gone':true}");
    ACT(up, &v1.versions[0], 1, 2);
    wait_ready(t, &s, 3, 2);
    assert_int_equal(counted(t, "throttled"), 2);
    assert_int_equal(counted(t, "conflicts"), 3);
    assert_true(counted(t, "dry") >= 1);
    control(t, "{'conflicts':50}");
    REFUSED(stop, &v1.versions[0], 1, 2, "409", false);
    control(t, "{'conflicts':0}");
    ACT(stop, &v1.versions[0], 1, 2);
    /* Nobody there: said, not lasting. */
    harness_kill(t->api);
    look(t, &s);
    assert_false(s.ok || s.lasting);
    assert_non_null(strstr(s.text, "127.0.0.1"));
    forget_seen(&s);
    forget_seen(&v1);
}

static void one_deployment_is_patched(void **state)
{
    struct town *t = *state;
    struct seen s = {0}, v1 = {0};
    deploy(t, "stable", "agent:v1", 2, "", "", "", ",'progressDeadlineSeconds':1");
    open_all(t, "");
    assert_false(t->xk->gradual || t->xk->goes_home);
    wait_ready(t, &v1, 2, 0);
    const struct seen_version *v = &v1.versions[0];
    /* The deployment goes wrong: its pods never get ready, and the deadline passes. */
    deploy(t, "stable", "agent-sick:v2", 2, "", "", "", ",'progressDeadlineSeconds':1");
    int64_t end_ms = clock_mono_ms() + 2 * HARNESS_WAIT_MS;
    while (!*kube_stale(object(t, "deployments/stable")) && clock_mono_ms() < end_ms)
        ;
    assert_true(*kube_stale(object(t, "deployments/stable")));
    look(t, &s);
    assert_string_equal(version_on(&s, 0)->v.name, "v2");
    struct seen sick = s;
    s = (struct seen){0};
    /* The deadline that it has missed says nothing of the way back (its condition stands on for a while). */
    control(t, "{'stale':true,'cut':80,'gone':true}");
    ACT(check, v, 1, 2);
    ACT(up, v, 1, 2);
    wait_ready(t, &s, 0, 2);
    assert_string_equal(version_on(&s, 1)->v.id, v->v.id);
    assert_string_equal(s.instances[0].job, "job-1");
    ACT(stop, &sick.versions[0], 0, 2);
    ACT(remove, &sick.versions[0], 0, 2);
    ACT(up, v, 1, 2);
    /* Forth again: it is stuck, and that is said. */
    control(t, "{'stale':false}");
    struct seen_version bad = sick.versions[0];
    REFUSED(up, &bad, 0, 2, "timed out progressing", true);
    look(t, &s);
    assert_true(all_on(&s, 0) > 0 && all_on(&s, 1) > 0); /* both stand: the former has its own side */
    assert_string_equal(s.instances[0].side == 1 ? s.instances[0].version : s.instances[s.n - 1].version, v->v.id);
    assert_true(counted(t, "cuts") > 0 && counted(t, "gone") > 0); /* it went on all the same */
    ACT(up, v, 1, 2);
    wait_ready(t, &s, 0, 2);
    forget_seen(&s);
    forget_seen(&sick);
    forget_seen(&v1);
}

static void never(void *ctx, const struct executor_result *r)
{
    (void)ctx;
    fail_msg("told after close: %s", r->text);
}

static void never_view(void *ctx, const struct executor_view *v)
{
    (void)ctx;
    fail_msg("told after close: %s", v->error);
}

static void closed_is_closed(void **state)
{
    struct town *t = *state;
    struct seen v1 = {0};
    bool nothing = false;
    start_pair(t);
    wait_ready(t, &v1, 3, 0);
    /* Whatever is in hand, after any time: looks, calls, waits between tries, what is followed. */
    for (int wait_ms = 0; wait_ms < 120; wait_ms += 8) {
        struct executor_order o = {.job = "j",
                                   .version = v1.versions[0].v.id,
                                   .name = "v1",
                                   .digest = v1.versions[0].v.digest,
                                   .spec = v1.versions[0].spec,
                                   .spec_len = strlen(v1.versions[0].spec),
                                   .side = 1,
                                   .count = 3 + (unsigned)wait_ms};
        control(t, "{'ready_ms':1000,'quota':%d,'faults':[{'times':2,'status':503}]}", 2000);
        t->xk->up(t->x, &o, never, NULL);
        t->xk->check(t->x, &o, never, NULL);
        t->xk->view(t->x, never_view, NULL);
        if (wait_ms > 0)
            (void)loop_run_until(&t->s.loop, &nothing, 1);
        t->xk->close(t->x);
        (void)loop_run_until(&t->s.loop, &nothing, wait_ms / 8);
        open_all(t, "canary");
    }
    forget_seen(&v1);
}

static int run(const char *command)
{
    int rc = system(command);
    return rc;
}

static void tls_is_checked(void **state)
{
    struct town *t = *state;
    struct err e = {""};
    struct seen s = {0};
    char command[2048], port[16], cert[600], key[600], config[600], url[64];
    int n = harness_free_port();
    const char *dir = harness_dir(t->h);
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
             "/CN=kube -addext subjectAltName=IP:127.0.0.1 "
             "-keyout k.pem -out c.pem 2>/dev/null && { echo 'current-context: x'; echo 'contexts: [{name: x, "
             "context: {cluster: c, user: u, namespace: agents}}]';"
             " echo 'users: [{name: u, user: {token: first}}]'; printf 'clusters: [{name: c, cluster: {server: "
             "\"https://127.0.0.1:%d\", "
             "certificate-authority-data: %%s}}]\\n' \"$(base64 -w0 c.pem)\"; } > config",
             dir, n);
    assert_int_equal(run(command), 0);
    snprintf(port, sizeof port, "%d", n);
    snprintf(cert, sizeof cert, "%s/c.pem", dir);
    snprintf(key, sizeof key, "%s/k.pem", dir);
    snprintf(config, sizeof config, "%s/config", dir);
    snprintf(url, sizeof url, "https://127.0.0.1:%d", n);
    const char *argv[] = {"node", "tests/e2e/lib/kube.mjs", port, cert, key, NULL};
    (void)harness_run(t->h, "tls", n, argv);
    char *none = (char *)(uintptr_t) "";
    t->set.kubernetes.server = none;
    t->set.kubernetes.token_file = none;
    t->set.kubernetes.kubeconfig = config;
    open_all(t, "");
    look(t, &s); /* the Deployment is not there, but the server is */
    assert_non_null(strstr(s.text, "404"));
    t->xk->close(t->x);
    /* Without its authority it is nobody. */
    t->set.kubernetes.kubeconfig = none;
    t->set.kubernetes.server = url;
    t->set.kubernetes.token_file = t->token_file;
    open_all(t, "");
    look(t, &s);
    assert_false(s.ok);
    assert_true(s.lasting);
    assert_non_null(strstr(s.text, "certificate"));
    t->xk->close(t->x);
    t->set.kubernetes.server = (char *)(uintptr_t) "http://198.51.100.1";
    t->x = t->xk->open(&t->s, &t->set, &e);
    assert_null(t->x);
    assert_non_null(strstr(e.text, "allowed: https://"));
    forget_seen(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pair_carries_two_versions, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(configmaps_are_as_they_were, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused_before, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(what_passes_is_tried_again, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(one_deployment_is_patched, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(closed_is_closed, town_setup, town_teardown),
        cmocka_unit_test_setup_teardown(tls_is_checked, town_setup, town_teardown),
    };
    return cmocka_run_group_tests(tests, shared_setup, shared_teardown);
}
