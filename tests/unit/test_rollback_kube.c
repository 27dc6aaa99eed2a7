/* test_rollback_kube.c - the pure half of Kubernetes: kubeconfigs, rollouts, images, selectors, templates, Jobs, shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "rollback/kube_config.h"
#include "rollback/kube_deployment.h"
#include "rollback/kube_share.h"
#include "rollback/rollback_executor.h"
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static const char *file(const char *name, const char *text)
{
    static char path[4][128];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, 128, "%s/%s", dir, name);
    FILE *f = fopen(p, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return p;
}

static struct set_rb_kubernetes settings(const char *kubeconfig)
{
    return (struct set_rb_kubernetes){.server = (char *)"",
                                      .kubeconfig = (char *)(uintptr_t)kubeconfig,
                                      .context = (char *)"",
                                      .ca_file = (char *)"",
                                      .token_file = (char *)"",
                                      .namespace = (char *)"",
                                      .deployment = (char *)"stable",
                                      .canary = (char *)"",
                                      .container = (char *)""};
}

/* ---- kubeconfig ---- */

#define HEAD                                                                                                         \
    "apiVersion: v1\nkind: Config\ncurrent-context: one\ncontexts:\n- {name: one, context: {cluster: c, user: u, "   \
    "namespace: agents}}\n"
#define CLUSTER "clusters:\n- name: c\n  cluster: {server: 'https://api.example:6443/'%s}\n"
#define USER    "users:\n- name: u\n  user: {%s}\n"

static int load_text(struct kube_access *a, const char *cluster, const char *user, struct err *e)
{
    char text[2048];
    snprintf(text, sizeof text, HEAD CLUSTER USER, cluster, user);
    struct set_rb_kubernetes set = settings(file("kubeconfig", text));
    return kube_access_load(a, &set, NULL, e);
}

static void kubeconfigs_are_read(void **state)
{
    (void)state;
    struct kube_access a;
    struct err e = {""};
    char data[16] = "";
    assert_int_equal(load_text(&a, ", certificate-authority-data: aGVsbG8K", "tokenFile: tok", &e), 0);
    assert_string_equal(a.server, "https://api.example:6443");
    assert_string_equal(a.namespace, "agents");
    /* A path is relative to the file that names it; what is inline is a file of this process only. */
    assert_string_equal(strrchr(a.token_file, '/'), "/tok");
    int fd = open(a.ca_file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, data, sizeof data - 1) == 6);
    close(fd);
    assert_string_equal(data, "hello\n");
    assert_null(kube_access_token(&a, &e));
    assert_non_null(strstr(e.text, "tok"));
    file("tok", "first\n");
    char *t = kube_access_token(&a, &e);
    assert_string_equal(t, "first");
    free(t);
    file("tok", "second");
    t = kube_access_token(&a, &e); /* it rotates: never kept */
    assert_string_equal(t, "second");
    free(t);
    file("tok", "two words");
    assert_null(kube_access_token(&a, &e));
    kube_access_free(&a);
    assert_int_equal(load_text(&a, "", "token: abc, client-certificate: a.pem, client-key: b.pem", &e), 0);
    assert_string_equal(a.token, "abc");
    assert_string_equal(strrchr(a.cert_file, '/'), "/a.pem");
    kube_access_free(&a);
}

static void kubeconfigs_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *cluster, *user, *why;
    } rows[] = {
        {"", "exec: {command: aws}", "runs a program"},
        {"", "auth-provider: {name: gcp}", "runs a program"},
        {"", "username: admin, password: x", "token or a certificate"},
        {"", "token: x, as: root", "somebody else"},
        {", insecure-skip-tls-verify: true", "token: x", "trust anybody"},
        {", proxy-url: 'http://p'", "token: x", "not supported"},
        {", tls-server-name: x", "token: x", "not supported"},
        {", certificate-authority-data: '!!'", "token: x", "not base64"},
        {"", "client-certificate: a.pem", "belong together"},
        {"", "token: [", "line"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kube_access a;
        struct err e = {""};
        assert_int_equal(load_text(&a, rows[i].cluster, rows[i].user, &e), -1);
        if (!strstr(e.text, rows[i].why))
            fail_msg("row %zu: %s", i, e.text);
    }
    static const char *const texts[] = {
        "",
        "just text",
        "[1, 2]",
        "current-context: none\n",
        "current-context: one\ncontexts: [{name: one, context: {cluster: x}}]\n",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, "
        "*b, *b, *b, *b, *b, *b, *b]\n"
        "d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct kube_access a;
        struct err e = {""};
        struct set_rb_kubernetes set = settings(file("kubeconfig", texts[i]));
        assert_int_equal(kube_access_load(&a, &set, NULL, &e), -1);
        assert_true(*e.text);
    }
    struct kube_access a;
    struct err e = {""};
    struct set_rb_kubernetes set = settings("/nowhere/config");
    assert_int_equal(kube_access_load(&a, &set, NULL, &e), -1);
    assert_non_null(strstr(e.text, "/nowhere/config"));
}

static void a_pod_is_given_what_it_needs(void **state)
{
    (void)state;
    struct kube_access a;
    struct err e = {""};
    struct set_rb_kubernetes set = settings("");
    file("token", "podtoken");
    file("ca.crt", "pem");
    file("namespace", "agents\n");
    unsetenv("KUBERNETES_SERVICE_HOST");
    assert_int_equal(kube_access_load(&a, &set, dir, &e), -1);
    assert_non_null(strstr(e.text, "no server"));
    setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    assert_int_equal(kube_access_load(&a, &set, dir, &e), 0);
    assert_string_equal(a.server, "https://[fd00::1]:443");
    assert_string_equal(a.namespace, "agents");
    assert_non_null(a.ca_file);
    kube_access_free(&a);
    set.server = (char *)"http://10.0.0.1:8001"; /* a token in the clear */
    assert_int_equal(kube_access_load(&a, &set, dir, &e), -1);
    set.server = (char *)"http://127.0.0.1:8001";
    set.namespace = (char *)"other";
    assert_int_equal(kube_access_load(&a, &set, dir, &e), 0);
    assert_string_equal(a.namespace, "other");
    kube_access_free(&a);
}

/* ---- rollout ---- */

static enum kube_rollout rollout(const char *status, const char *stale)
{
    char text[1024], why[200];
    snprintf(text, sizeof text, "{'metadata':{'generation':3},'spec':{'replicas':3},'status':{%s}}", status);
    for (char *p = text; *p; p++)
        *p = (char)(*p == '\'' ? '"' : *p);
    json_t *d = json_loads(text, 0, NULL);
    assert_non_null(d);
    enum kube_rollout r = kube_rollout(d, stale, why, sizeof why);
    assert_true((r == KUBE_ROLLED) == !*why);
    json_decref(d);
    return r;
}

#define STUCK_AT(t)                                                                                                  \
    "'conditions':[{'type':'Progressing','status':'False','reason':'ProgressDeadlineExceeded','lastUpdateTime':'" t  \
    "'}]"
#define DONE "'observedGeneration':3,'replicas':3,'updatedReplicas':3,'availableReplicas':3"

static void a_rollout_is_seen_in_order(void **state)
{
    (void)state;
    assert_int_equal(rollout("", ""), KUBE_ROLLING);
    assert_int_equal(
        rollout("'observedGeneration':2,'replicas':3,'updatedReplicas':3,'availableReplicas':3," STUCK_AT(
                    "2026-01-01T00:00:09Z"),
                ""),
        KUBE_ROLLING); /* of the generation before */
    assert_int_equal(rollout("'observedGeneration':3,'replicas':4,'updatedReplicas':2,'availableReplicas':3", ""),
                     KUBE_ROLLING);
    assert_int_equal(rollout("'observedGeneration':3,'replicas':4,'updatedReplicas':3,'availableReplicas':4", ""),
                     KUBE_ROLLING);
    assert_int_equal(rollout("'observedGeneration':3,'replicas':3,'updatedReplicas':3,'availableReplicas':2", ""),
                     KUBE_ROLLING);
    assert_int_equal(rollout(DONE, ""), KUBE_ROLLED);
    assert_int_equal(rollout("'observedGeneration':3,'updatedReplicas':1," STUCK_AT("2026-01-01T00:00:09Z"), ""),
                     KUBE_STUCK);
    /* A deadline that the rollout before has missed says nothing of the undo; a newer one does. */
    assert_int_equal(rollout("'observedGeneration':3,'updatedReplicas':1," STUCK_AT("2026-01-01T00:00:09Z"),
                             "2026-01-01T00:00:09Z"),
                     KUBE_ROLLING);
    assert_int_equal(rollout(DONE "," STUCK_AT("2026-01-01T00:00:09Z"), "2026-01-01T00:00:09Z"), KUBE_ROLLED);
    assert_int_equal(rollout("'observedGeneration':3,'updatedReplicas':1," STUCK_AT("2026-01-01T00:10:09Z"),
                             "2026-01-01T00:00:09Z"),
                     KUBE_STUCK);
}

/* ---- images and selectors ---- */

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void images_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *image, *repository, *tag, *digest;
    } rows[] = {
        {"agent", "agent", "", ""},
        {"agent:v1", "agent", "v1", ""},
        {"reg.example:5000/a/agent", "reg.example:5000/a/agent", "", ""},
        {"reg.example:5000/a/agent:v2", "reg.example:5000/a/agent", "v2", ""},
        {"agent@sha256:" HEX64, "agent", "", "sha256:" HEX64},
        {"r:5000/agent:v1@sha256:" HEX64, "r:5000/agent", "v1", "sha256:" HEX64},
        {"agent@sha256:0123", "agent", "", ""},
        {"docker-pullable://agent@sha256:" HEX64, "docker-pullable://agent", "", "sha256:" HEX64},
        {"sha256:" HEX64, "sha256", HEX64, "sha256:" HEX64},
        {"docker://sha256:" HEX64, NULL, NULL, "sha256:" HEX64},
        {"", "", "", ""},
    };
    char buf[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].repository) {
            kube_image_repository(rows[i].image, buf, sizeof buf);
            assert_string_equal(buf, rows[i].repository);
            kube_image_tag(rows[i].image, buf, sizeof buf);
            assert_string_equal(buf, rows[i].tag);
        }
        kube_image_digest(rows[i].image, buf, sizeof buf);
        assert_string_equal(buf, rows[i].digest);
    }
}

static void selectors_are_written(void **state)
{
    (void)state;
    char buf[200], small[8];
    json_t *d = json_loads("{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"},\"matchExpressions\":[{\"key\":"
                           "\"t\",\"operator\":\"In\","
                           "\"values\":[\"x\",\"y\"]},{\"key\":\"u\",\"operator\":\"DoesNotExist\"},{\"key\":\"v\","
                           "\"operator\":\"Exists\"}]}}}",
                           0, NULL);
    assert_true(kube_selector(d, buf, sizeof buf));
    assert_string_equal(buf, "a=b,t in (x,y),!u,v");
    assert_false(kube_selector(d, small, sizeof small));
    json_decref(d);
    d = json_object();
    assert_false(kube_selector(d, buf, sizeof buf)); /* never everything */
    json_decref(d);
}

/* ---- templates ---- */

static const char stable_text[] =
    "{\"metadata\":{\"name\":\"stable\",\"resourceVersion\":\"7\",\"annotations\":{\"keep\":\"1\"}},\"spec\":{"
    "\"selector\":{\"matchLabels\":{\"app\":\"a\","
    "\"track\":\"stable\"}},\"template\":{\"metadata\":{\"creationTimestamp\":null,\"labels\":{\"app\":\"a\","
    "\"track\":\"stable\",\"io.redoubt.traffic\":"
    "\"on\",\"app.kubernetes.io/version\":\"1\"},\"annotations\":{\"kubectl.kubernetes.io/"
    "restartedAt\":\"now\",\"io.redoubt.state\":\"x\"}},\"spec\":{"
    "\"containers\":[{\"name\":\"agent\",\"image\":\"r/"
    "agent:v1\",\"envFrom\":[{\"configMapRef\":{\"name\":\"conf\"}},{\"secretRef\":{\"name\":\"s1\"}}],"
    "\"env\":[{\"name\":\"X\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":\"opt\",\"key\":\"k\",\"optional\":true}}}"
    "]}],\"initContainers\":[{\"name\":"
    "\"i\",\"image\":\"init\",\"envFrom\":[{\"configMapRef\":{\"name\":\"conf\"}}]}],\"volumes\":[{\"name\":\"v\","
    "\"projected\":{\"sources\":[{"
    "\"configMap\":{\"name\":\"conf-rb-0123456789\"}},{\"secret\":{\"name\":\"s2\"}}]}}],\"imagePullSecrets\":[{"
    "\"name\":\"pull\"}]}}}}";

static void a_template_moves_between_deployments(void **state)
{
    (void)state;
    json_t *stable = json_loads(stable_text, 0, NULL), *canary = json_loads(stable_text, 0, NULL);
    assert_non_null(stable);
    json_object_set_new(kube_at(canary, "spec.selector.matchLabels"), "track", json_string("canary"));
    json_object_set_new(kube_at(canary, "spec.template.metadata.labels"), "track", json_string("canary"));
    json_object_set_new(kube_at(canary, "spec.template.metadata.labels"), "io.redoubt.traffic", json_string("off"));
    json_t *t = kube_template(stable), *same = kube_template(canary);
    assert_true(json_equal(t, same)); /* whose it is does not make another version */
    assert_string_equal(kube_label(t, "app.kubernetes.io/version"), "1");
    assert_string_equal(kube_label(t, "track"), "");
    assert_null(kube_at(t, "metadata.annotations"));

    json_t *configmaps, *secrets;
    kube_refs(t, &configmaps, &secrets);
    assert_int_equal(json_object_size(configmaps), 2); /* the copy is its original */
    assert_true(json_is_false(json_object_get(configmaps, "conf")));
    assert_true(json_is_true(json_object_get(configmaps, "opt")));
    assert_int_equal(json_object_size(secrets), 3);

    json_t *copies = json_pack("{s:s}", "conf", "conf-rb-fedcba9876");
    json_t *made = kube_template_for(t, canary, "agent", "r/agent@sha256:" HEX64, copies);
    assert_string_equal(kube_label(made, "track"), "canary");
    assert_string_equal(kube_label(made, "io.redoubt.traffic"), "off");
    assert_string_equal(kube_text(kube_container(made, ""), "image"), "r/agent@sha256:" HEX64);
    char *text = json_dumps(made, 0);
    assert_null(strstr(text, "\"conf\""));
    assert_non_null(strstr(text, "conf-rb-fedcba9876"));
    free(text);
    /* And back: what was recorded, but for the image, of which only the repository counts. */
    json_object_set(kube_at(canary, "spec"), "template", made);
    json_t *back = kube_template(canary), *none = json_object(), *h1 = kube_hashed(t, "", none),
           *h2 = kube_hashed(back, "", none);
    assert_true(json_equal(h1, h2));

    json_t *notes = json_pack("{s:s,s:n}", "new", "2", "keep"),
           *patch = kube_deployment_patch(stable, made, 0, notes);
    assert_int_equal(json_array_size(patch), 4);
    assert_string_equal(kube_text(json_array_get(patch, 0), "value"), "7");
    assert_null(json_object_get(json_object_get(json_array_get(patch, 1), "value"), "keep"));
    json_t *all[] = {stable, canary, t, same, configmaps, secrets, copies, made, back, none, h1, h2, notes, patch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_decref(all[i]);
}

static void names_of_copies_are_bounded(void **state)
{
    (void)state;
    char longest[254], copy[300];
    memset(longest, 'a', 253);
    longest[253] = '\0';
    kube_copy_name(longest, "0123456789abcdef", copy, sizeof copy);
    assert_int_equal(strlen(copy), 253);
    assert_string_equal(copy + 253 - 14, "-rb-0123456789");
}

/* ---- shares ---- */

/* ---- jobs ---- */

static json_t *quoted(const char *text)
{
    char buf[4096];
    snprintf(buf, sizeof buf, "%s", text);
    for (char *p = buf; *p; p++)
        *p = (char)(*p == '\'' ? '"' : *p);
    json_t *j = json_loads(buf, 0, NULL);
    assert_non_null(j);
    return j;
}

static void a_job_is_the_container_alone(void **state)
{
    (void)state;
    static const char *const argv[] = {"migrate", "$(HOME)", "$", NULL};
    json_t *d = quoted("{'spec':{'selector':{'matchLabels':{'app':'a'}}}}");
    json_t *t = quoted(
        "{'metadata':{'labels':{'app':'a','io.redoubt.traffic':'on'},'annotations':{'io.redoubt.state':'x','keep':'k'"
        ","
        "'container.apparmor.security.beta.kubernetes.io/agent':'l','container.apparmor.security.beta.kubernetes.io/"
        "side':'l'}},"
        "'spec':{'hostname':'h','restartPolicy':'Always','nodeSelector':{'disk':'ssd'},'topologySpreadConstraints':[{"
        "}],"
        "'affinity':{'podAntiAffinity':{'x':1},'nodeAffinity':{'y':1}},'initContainers':[{'name':'up'}],'volumes':[{"
        "'name':'v'}],"
        "'containers':[{'name':'side','image':'s'},{'name':'agent','image':'i','args':['serve'],'ports':[{}],"
        "'startupProbe':{},'env':[{'name':'A'}],'volumeMounts':[{'name':'v'}],'securityContext':{'z':1}}]}}");
    struct kube_job_order o = {
        .name = "n", .owner = "mcp", .job = "rb 7", .container = "agent", .argv = argv, .deadline_s = 90};
    json_t *job = kube_job(t, d, &o);
    json_t *expected = quoted(
        "{'apiVersion':'batch/v1','kind':'Job','metadata':{'name':'n','labels':{'io.redoubt.deployment':'mcp'},"
        "'annotations':{'io.redoubt.job':'rb 7'}},"
        "'spec':{'backoffLimit':0,'activeDeadlineSeconds':90,'ttlSecondsAfterFinished':86400,'template':{'metadata':{"
        "'labels':{'io.redoubt.deployment':'mcp'},'annotations':{'keep':'k','container.apparmor.security.beta."
        "kubernetes.io/agent':'l','cluster-autoscaler.kubernetes.io/safe-to-evict':'false'}},"
        "'spec':{'restartPolicy':'Never','nodeSelector':{'disk':'ssd'},'affinity':{'nodeAffinity':{'y':1},'"
        "podAffinity':{"
        "'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':100,'podAffinityTerm':{'topologyKey':'"
        "kubernetes."
        "io/hostname','labelSelector':{'matchLabels':{'app':'a'}}}}]}},'volumes':[{'name':'v'}],"
        "'containers':[{'name':'agent','image':'i','command':['migrate','$$(HOME)','$$'],'env':[{'name':'A'}],"
        "'volumeMounts':[{'name':'v'}],'securityContext':{'z':1}}]}}}}");
    if (!json_equal(job, expected))
        fail_msg("%s", json_dumps(job, JSON_INDENT(1)));
    assert_true(kube_job_is(job, "mcp", "rb 7"));
    assert_false(kube_job_is(job, "mcp", "rb-8") || kube_job_is(job, "other", "rb 7"));
    assert_false(kube_selects(d, kube_at(job, "spec.template.metadata.labels")));
    /* An id that may be a label is one. */
    o.job = "rb-7";
    json_t *other = kube_job(t, d, &o);
    assert_string_equal(kube_label(other, KUBE_JOB), "rb-7");
    assert_string_equal(kube_label(kube_at(other, "spec.template"), KUBE_JOB), "rb-7");
    json_decref(other);
    json_decref(expected);
    json_decref(job);
    json_decref(t);
    json_decref(d);
}

static void jobs_are_named_and_read(void **state)
{
    (void)state;
    char a[64], b[64], long_name[254], text[8], why[300];
    kube_job_name("stable", "rb-7", a);
    kube_job_name("stable", "rb-8", b);
    assert_true(strncmp(a, "stable-rb-", 10) == 0 && strlen(a) == 20 && strcmp(a, b) != 0);
    memset(long_name, '.', sizeof long_name);
    memset(long_name, 'a', 48);
    long_name[253] = '\0';
    kube_job_name(long_name, "rb-7", a);
    assert_int_equal(strlen(a), 48 + 4 + 10);
    assert_null(strchr(a, '.'));
    memset(long_name, 'a', 253);
    kube_job_name(long_name, "rb-7", a);
    assert_int_equal(strlen(a), 63);

    static const struct {
        const char *job;
        enum kube_job_state is;
    } cases[] = {
        {"{}", KUBE_JOB_RUNS},
        {"{'status':{'active':1}}", KUBE_JOB_RUNS},
        {"{'status':{'conditions':[{'type':'FailureTarget','status':'True'}]}}", KUBE_JOB_RUNS},
        {"{'status':{'conditions':[{'type':'Complete','status':'False'}]}}", KUBE_JOB_RUNS},
        {"{'status':{'conditions':[{'type':'SuccessCriteriaMet','status':'True'},{'type':'Complete','status':'True'}]"
         "}}",
         KUBE_JOB_DONE},
        {"{'status':{'conditions':[{'type':'Failed','status':'True','reason':'DeadlineExceeded','message':'m'}]}}",
         KUBE_JOB_FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *j = quoted(cases[i].job);
        assert_int_equal(kube_job_state(j, why, sizeof why), cases[i].is);
        assert_string_equal(why, cases[i].is == KUBE_JOB_FAILED ? "DeadlineExceeded: m" : "");
        json_decref(j);
    }
    /* The end counts, in one line, and no character is cut. */
    assert_string_equal(kube_log_end("ab\ncd\n\n", 7, text, sizeof text), "ab cd");
    assert_string_equal(kube_log_end("", 0, text, sizeof text), "");
    assert_string_equal(kube_log_end(" \n", 2, text, sizeof text), "");
    assert_string_equal(kube_log_end("0123456789", 10, text, sizeof text), "3456789");
    assert_string_equal(kube_log_end("01234567", 7, text, sizeof text), "0123456");
    assert_string_equal(kube_log_end("0\xc3\xbc"
                                     "123456",
                                     9, text, sizeof text),
                        "123456");
    assert_string_equal(kube_log_end("a\0b", 3, text, sizeof text), "a b");
}

static void a_selector_takes_what_it_says(void **state)
{
    (void)state;
    static const struct {
        const char *selector;
        bool takes;
    } cases[] = {
        {"{'matchLabels':{'a':'1'}}", true},
        {"{'matchLabels':{'a':'1','b':'2'}}", false},
        {"{'matchLabels':{'a':'2'}}", false},
        {"{}", true},
        {"{'matchExpressions':[{'key':'a','operator':'In','values':['0','1']}]}", true},
        {"{'matchExpressions':[{'key':'a','operator':'In','values':['0']}]}", false},
        {"{'matchExpressions':[{'key':'a','operator':'NotIn','values':['0']}]}", true},
        {"{'matchExpressions':[{'key':'b','operator':'NotIn','values':['0']}]}", true},
        {"{'matchExpressions':[{'key':'a','operator':'NotIn','values':['1']}]}", false},
        {"{'matchExpressions':[{'key':'a','operator':'Exists'}]}", true},
        {"{'matchExpressions':[{'key':'b','operator':'Exists'}]}", false},
        {"{'matchExpressions':[{'key':'b','operator':'DoesNotExist'}]}", true},
        {"{'matchLabels':{'a':'1'},'matchExpressions':[{'key':'a','operator':'DoesNotExist'}]}", false},
    };
    json_t *labels = json_pack("{s:s}", "a", "1"), *none = json_object();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *d = json_pack("{s:{s:o}}", "spec", "selector", quoted(cases[i].selector));
        if (kube_selects(d, labels) != cases[i].takes)
            fail_msg("%s", cases[i].selector);
        json_decref(d);
    }
    assert_false(kube_selects(none, labels));
    json_decref(none);
    json_decref(labels);
}

static void shares_are_numbers_of_pods(void **state)
{
    (void)state;
    unsigned a, b;
    for (unsigned n = 1; n <= 24; n++)
        for (unsigned m = 1; m <= 24; m++)
            for (int percent = 0; percent <= 100; percent++) {
                assert_true(kube_share_plan(percent, n, m, &a, &b));
                assert_true(a <= n && b <= m && a + b > 0);
                assert_int_equal(a == 0, percent == 0);
                assert_int_equal(b == 0, percent == 100);
                /* As long as both sides are whole, no side gets less than its share of the pods. */
                if (n == m) {
                    assert_true(a * 100 + 99 >= n * (unsigned)percent &&
                                b * 100 + 99 >= n * (unsigned)(100 - percent));
                    assert_true(a + b >= n);
                }
                /* It is off by less than one pod's part. */
                if (n == m && percent > 0 && percent < 100) {
                    double off = 100.0 * a / (a + b) - percent;
                    assert_true(off <= 100.0 / (a + b) && off >= -100.0 / (a + b));
                }
            }
    assert_true(kube_share_plan(50, 4, 4, &a, &b) && a == 4 && b == 4);
    assert_true(kube_share_plan(25, 4, 4, &a, &b) && a == 1 && b == 3);
    assert_true(kube_share_plan(10, 10, 10, &a, &b) && a == 1 && b == 9);
    assert_false(kube_share_plan(50, 4, 0, &a, &b));
    assert_false(kube_share_plan(100, 0, 4, &a, &b));
    assert_true(kube_share_plan(0, 0, 4, &a, &b) && a == 0 && b == 4);
    assert_int_equal(kube_share_percent(0, 0), -1);
    assert_int_equal(kube_share_percent(1, 1000), 1);
    assert_int_equal(kube_share_percent(1000, 1), 99);
    assert_int_equal(kube_share_percent(0, 3), 0);
    assert_int_equal(kube_share_percent(2, 1), 67);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kubeconfigs_are_read),
        cmocka_unit_test(kubeconfigs_are_refused),
        cmocka_unit_test(a_pod_is_given_what_it_needs),
        cmocka_unit_test(a_rollout_is_seen_in_order),
        cmocka_unit_test(images_are_taken_apart),
        cmocka_unit_test(selectors_are_written),
        cmocka_unit_test(a_template_moves_between_deployments),
        cmocka_unit_test(names_of_copies_are_bounded),
        cmocka_unit_test(a_job_is_the_container_alone),
        cmocka_unit_test(jobs_are_named_and_read),
        cmocka_unit_test(a_selector_takes_what_it_says),
        cmocka_unit_test(shares_are_numbers_of_pods),
    };
    snprintf(dir, sizeof dir, "/tmp/redoubt-kube-XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"kubeconfig", "tok", "token", "ca.crt", "namespace"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    return failed;
}
