/* test_rollback_docker.c - versions as containers of a real Docker engine: view, refusals, every act cut short everywhere, what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "common/clock.h"
#include "docker_kit.h"
#include "rollback/executor_docker.h"
#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>

static const char source[] =
    "#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
    "static void quit(int s) { (void)s; _exit(0); }\n"
    "int main(int n, char **v) {\n"
    "  if (n > 1 && !strcmp(v[1], \"health\")) return access(\"/state/well\", F_OK) != 0;\n"
    "  if (n > 3 && !strcmp(v[1], \"say\")) { puts(v[2]); fflush(stdout); usleep(200000); return atoi(v[3]); }\n"
    "  signal(SIGTERM, quit); for (;;) pause();\n}\n";

/* How finely acts are cut, and so how often at least. */
#ifdef __SANITIZE_ADDRESS__
#define CUT_FINE  3
#define CUT_LEAST 25
#else
#define CUT_FINE  8
#define CUT_LEAST 50
#endif

struct yard {
    struct harness *h;
    struct docker_kit *k;
    char none[300]; /* why there is no engine */
    struct service s;
    struct service_desc desc;
    struct set_deployment set;
    struct executor *x;
    char v1[80], v2[80];
    /* the last answer */
    bool done, ok, lasting;
    char text[1000];
    struct executor_instance i[EXECUTOR_INSTANCES];
    size_t n;
    struct executor_version v[8];
    size_t n_versions;
};

static void drop_all(struct yard *y);
static void by_compose(struct yard *y, bool on);
#define KIT(y)                                                                                                       \
    do {                                                                                                             \
        if ((y)->none[0]) {                                                                                          \
            print_message("SKIPPED, no engine: %s\n", (y)->none);                                                    \
            skip();                                                                                                  \
        }                                                                                                            \
        drop_all(y);                                                                                                 \
        by_compose(y, false);                                                                                        \
    } while (0)

/* ---- the service around it ---- */

static void closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void open_executor(struct yard *y)
{
    struct err e;
    y->x = executor_docker.open(&y->s, &y->set, &e);
    assert_non_null(y->x);
}

/* As by a crash: what is in hand is dropped. */
static void reopen(struct yard *y)
{
    executor_docker.close(y->x);
    open_executor(y);
    y->done = false;
}

static int setup(void **state)
{
    struct yard *y = calloc(1, sizeof *y);
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    y->h = harness_open();
    y->k = docker_kit_open(y->h, y->none, sizeof y->none);
    if (y->k && docker_kit_program(y->k, source, y->none, sizeof y->none)) {
        const char *v1 =
            "&changes=ENTRYPOINT%20%5B%22%2Fagent%22%5D&changes=LABEL%20io.redoubt.data-schema%3D7&changes=ENV%20"
            "BASE%3Dof-image&changes=VOLUME%20%2Flearnt&changes=LABEL%20org.opencontainers.image.version%3D1.4.2";
        const char *v2 = "&changes=ENTRYPOINT%20%5B%22%2Fagent%22%5D&changes=VOLUME%20%2Flearnt";
        docker_kit_image(y->k, "town/agent", "v1", v1, y->v1);
        docker_kit_image(y->k, "town/agent", "v2", v2, y->v2);
        docker_kit_network(y->k, "front", "10.251.7.0/24");
        docker_kit_network(y->k, "back", "10.251.8.0/24");
    }
    y->desc = (struct service_desc){.name = "rollback"};
    y->s.desc = &y->desc;
    if (loop_init(&y->s.loop) || !(y->s.http = http_open(&y->s.loop, &e)))
        return -1;
    y->set = (struct set_deployment){.name = "mcp",
                                     .docker = {.socket = y->k ? y->k->socket : "/nowhere",
                                                .container = "agent",
                                                .project = "",
                                                .service = "",
                                                .port = 8080,
                                                .network = "",
                                                .stop_ms = 5000,
                                                .ready_ms = 60000,
                                                .keep_repository = "redoubt/keep"}};
    open_executor(y);
    *state = y;
    return 0;
}

static int teardown(void **state)
{
    struct yard *y = *state;
    bool http = false;
    executor_docker.close(y->x);
    http_close(y->s.http, closed, &http);
    loop_run_until(&y->s.loop, &http, HARNESS_WAIT_MS);
    loop_done(&y->s.loop);
    for (size_t i = 0; i < y->n_versions; i++)
        free(y->v[i].spec);
    docker_kit_close(y->k);
    harness_close(y->h);
    free(y);
    return 0;
}

/* ---- asking ---- */

static void on_result(void *ctx, const struct executor_result *r)
{
    struct yard *y = ctx;
    assert_false(y->done);
    y->done = true;
    y->ok = r->ok;
    y->lasting = r->lasting;
    snprintf(y->text, sizeof y->text, "%s", r->text);
}

static void on_view(void *ctx, const struct executor_view *v)
{
    struct yard *y = ctx;
    assert_false(y->done);
    y->done = true;
    y->ok = v->ok;
    y->lasting = v->lasting;
    snprintf(y->text, sizeof y->text, "%s", v->error);
    memcpy(y->i, v->instances, v->n * sizeof *y->i);
    y->n = v->n;
    for (size_t i = 0; i < y->n_versions; i++)
        free(y->v[i].spec);
    assert_true(v->n_versions <= 8);
    y->n_versions = v->n_versions;
    for (size_t i = 0; i < v->n_versions; i++) {
        y->v[i] = v->versions[i];
        y->v[i].spec = v->versions[i].spec ? strdup(v->versions[i].spec) : NULL;
    }
}

static void finish(struct yard *y)
{
    if (!loop_run_until(&y->s.loop, &y->done, 6 * HARNESS_WAIT_MS))
        fail_msg("no answer");
}

static void view(struct yard *y)
{
    y->done = false;
    executor_docker.view(y->x, on_view, y);
    finish(y);
}

static void view_ok(struct yard *y)
{
    view(y);
    if (!y->ok)
        fail_msg("view: %s", y->text);
}

typedef void (*act_fn)(struct executor *, const struct executor_order *, executor_cb, void *);

static void act(struct yard *y, act_fn fn, const struct executor_order *o)
{
    y->done = false;
    fn(y->x, o, on_result, y);
    finish(y);
}

static void act_ok(struct yard *y, act_fn fn, const struct executor_order *o)
{
    act(y, fn, o);
    if (!y->ok)
        fail_msg("%s", y->text);
}

/* The service is lost after 1, 2, 3... turns of its loop, and asks anew each time: until it gets through. Its calls are cut in the middle, too. */
static void act_cut(struct yard *y, act_fn fn, const struct executor_order *o, unsigned *ret_cuts)
{
    for (unsigned turns = 1; turns < 4000; turns += 1 + turns / CUT_FINE) {
        y->done = false;
        fn(y->x, o, on_result, y);
        for (unsigned k = 0; k < turns && !y->done; k++)
            uv_run(&y->s.loop.uv, UV_RUN_ONCE);
        if (y->done && y->ok)
            return;
        if (!y->done)
            reopen(y);
        else if (y->lasting)
            fail_msg("%s", y->text); /* what may pass is asked for anew, as the service does */
        ++*ret_cuts;
    }
    fail_msg("it never got through");
}

static void refused(struct yard *y, const struct executor_order *o, const char *words)
{
    act(y, executor_docker.check, o);
    if (y->ok || !strstr(y->text, words))
        fail_msg("wanted a refusal with `%s`, got %d `%s`", words, y->ok, y->text);
}

static struct executor_order order(const struct yard *y, const char *job, const struct executor_version *v, int side,
                                   unsigned count)
{
    (void)y;
    return (struct executor_order){.job = job,
                                   .version = v->v.id,
                                   .name = v->v.name,
                                   .image = v->image,
                                   .digest = v->v.digest,
                                   .spec = v->spec,
                                   .spec_len = v->spec ? strlen(v->spec) : 0,
                                   .side = side,
                                   .count = count};
}

/* A version that outlives the next view. */
static struct executor_version copy_version(const struct executor_version *v)
{
    struct executor_version c = *v;
    c.spec = v->spec ? strdup(v->spec) : NULL;
    return c;
}

/* ---- containers of others ---- */

static void make_container(struct yard *y, const char *name, json_t *body)
{
    char path[300];
    snprintf(path, sizeof path, "/containers/create?name=%s", name);
    docker_kit_do(y->k, "POST", path, body);
}

static void run_container(struct yard *y, const char *name, json_t *body)
{
    char path[300];
    make_container(y, name, body);
    snprintf(path, sizeof path, "/containers/%s/start", name);
    docker_kit_do(y->k, "POST", path, NULL);
}

static void drop_container(struct yard *y, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "/containers/%s?force=1", name);
    docker_kit_do(y->k, "DELETE", path, NULL);
}

static json_t *inspect(struct yard *y, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "/containers/%s/json", name);
    return docker_kit_call(y->k, "GET", path, NULL, NULL);
}

static json_t *all(struct yard *y)
{
    return docker_kit_call(y->k, "GET", "/containers/json?all=1", NULL, NULL);
}

static void drop_all(struct yard *y)
{
    json_t *list = all(y), *c;
    size_t i;
    json_array_foreach(list, i, c) drop_container(y, docker_text(c, "Id"));
    json_decref(list);
}

/* With nearly everything that a container can have and keep. */
static json_t *rich(const char *image, const char *number)
{
    json_t *b = json_pack("{ss s[sss] s{ss ss ss ss ss ss ss} s{s{}} s{s[ss] ss s{ss} s{ss} s{ss} s[s] s[s] si si "
                          "s[{ss si si}] sb s[ss]} "
                          "s{s{s{s[ss]}}}}",
                          "Image", image, "Env", "ONE=1", "TWO=a b=c\"d", "BASE=mine", "Labels", "team", "blue",
                          "empty", "", "com.docker.compose.project", "town", "com.docker.compose.service", "agent",
                          "com.docker.compose.container-number", number, "com.docker.compose.oneoff", "False",
                          "com.docker.compose.config-hash", "0123", "Volumes", "/scratch", "HostConfig", "Binds",
                          "data:/data", "/tmp:/host:ro", "NetworkMode", "front", "RestartPolicy", "Name", "always",
                          "Tmpfs", "/t", "size=1m", "LogConfig", "Type", "json-file", "CapDrop", "ALL", "ExtraHosts",
                          "db:10.1.2.3", "Memory", 64 << 20, "PidsLimit", 50, "Ulimits", "Name", "nofile", "Soft",
                          128, "Hard", 256, "ReadonlyRootfs", 1, "SecurityOpt", "no-new-privileges", "label=disable",
                          "NetworkingConfig", "EndpointsConfig", "front", "Aliases", "agent", "guard");
    assert_non_null(b);
    return b;
}

static void deploy_rich(struct yard *y, const char *image, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        char name[40], number[8];
        snprintf(name, sizeof name, "town-agent-%u", i);
        snprintf(number, sizeof number, "%u", i);
        run_container(y, name, rich(image, number));
        docker_kit_do(y->k, "POST", "/networks/back/connect",
                      json_pack("{ss s{s[s]}}", "Container", name, "EndpointConfig", "Aliases", "deep"));
    }
}

static void by_compose(struct yard *y, bool on)
{
    y->set.docker.container = on ? "" : "agent";
    y->set.docker.project = on ? "town" : "";
    y->set.docker.service = on ? "agent" : "";
}

static unsigned count_side(const struct yard *y, int side, bool running)
{
    unsigned n = 0;
    for (size_t i = 0; i < y->n; i++)
        n += y->i[i].side == side && y->i[i].running == running;
    return n;
}

static json_t *plain(const char *image)
{
    return json_pack("{ss s{ss}}", "Image", image, "HostConfig", "NetworkMode", "front");
}

/* ---- who answers ---- */

/* Something that is no engine. */
static pid_t serve(const char *path, const char *answer)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 8), 0);
    pid_t p = fork();
    for (char buf[1000]; p == 0;) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int c = accept(fd, NULL, NULL);
        (void)!recv(c, buf, sizeof buf, 0);
        (void)!write(c, answer, strlen(answer));
        close(c);
    }
    close(fd);
    return p;
}

static void end_server(pid_t p)
{
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
}

static void away(void **state)
{
    struct yard *y = *state;
    char path[200], *was = y->set.docker.socket;
    snprintf(path, sizeof path, "%s/none.sock", harness_dir(y->h));
    y->set.docker.socket = path;
    reopen(y);
    view(y);
    assert_false(y->ok || y->lasting);
    assert_non_null(strstr(y->text, "no socket at"));
    FILE *f = fopen(path, "we");
    fclose(f);
    view(y);
    assert_true(!y->ok && y->lasting);
    assert_non_null(strstr(y->text, "is not a socket"));
    unlink(path);
    pid_t server = serve(path, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK");
    view(y);
    assert_true(!y->ok && y->lasting);
    assert_non_null(strstr(y->text, "is not a Docker Engine"));
    end_server(server);
    unlink(path);
    server = serve(path, "HTTP/1.0 200 OK\r\nApi-Version: 1.12\r\nContent-Length: 2\r\n\r\nOK");
    view(y);
    assert_true(!y->ok && y->lasting);
    assert_non_null(strstr(y->text, "take a newer engine"));
    end_server(server);
    unlink(path);
    server = serve(path, "");
    view(y);
    assert_true(!y->ok && !y->lasting);
    assert_non_null(strstr(y->text, "hangs up"));
    end_server(server); /* the socket stays, and nobody answers there */
    view(y);
    assert_true(!y->ok && !y->lasting);
    assert_non_null(strstr(y->text, "nobody answers at"));
    if (geteuid() == 0) {
        chmod(path, 0600);
        pid_t p = fork();
        if (p == 0) {
            char why[300];
            bool good =
                setuid(65534) == 0 && docker_socket_problem(path, why, sizeof why) && strstr(why, "no permission");
            _exit(good ? 0 : 1);
        }
        int st = -1;
        waitpid(p, &st, 0);
        assert_int_equal(st, 0);
    }
    unlink(path);
    y->set.docker.socket = was;
    reopen(y);
}

static void never_comes(void *ctx, const struct executor_result *r)
{
    (void)ctx;
    (void)r;
}

static void closed_in_the_middle(void **state)
{
    struct yard *y = *state;
    KIT(y);
    for (int k = 0; k < 20; k++) {
        y->done = false;
        executor_docker.view(y->x, on_view, y);
        struct executor_order o = {.job = "j", .version = "0000000000000000", .spec = "nonsense", .spec_len = 8};
        executor_docker.check(y->x, &o, never_comes, NULL);
        for (int i = 0; i < k && !y->done; i++)
            uv_run(&y->s.loop.uv, UV_RUN_NOWAIT);
        reopen(y);
    }
    view_ok(y);
}

/* ---- what stands ---- */

static bool healthy(void *ctx)
{
    struct yard *y = ctx;
    view_ok(y);
    return y->n == 1 && y->i[0].ready;
}

static void seen(void **state)
{
    struct yard *y = *state;
    KIT(y);
    char state_dir[200], bind[260], well[260];
    snprintf(state_dir, sizeof state_dir, "%s/state", harness_dir(y->h));
    snprintf(bind, sizeof bind, "%s:/state", state_dir);
    snprintf(well, sizeof well, "%s/well", state_dir);
    mkdir(state_dir, 0755);
    view_ok(y);
    assert_int_equal(y->n, 0);
    json_t *b = plain("town/agent:v1");
    json_object_set_new(b, "Healthcheck",
                        json_pack("{s[sss] sI sI si}", "Test", "CMD", "/agent", "health", "Interval",
                                  (json_int_t)200000000, "Timeout", (json_int_t)5000000000, "Retries", 1));
    json_object_set_new(json_object_get(b, "HostConfig"), "Binds", json_pack("[s]", bind));
    run_container(y, "agent", b);
    run_container(y, "other", plain("town/agent:v2"));
    view_ok(y);
    assert_int_equal(y->n, 1);
    assert_string_equal(y->i[0].name, "agent");
    assert_string_equal(y->i[0].job, "");
    assert_int_equal(y->i[0].side, 0);
    assert_true(y->i[0].running && !y->i[0].ready);
    assert_non_null(strstr(y->i[0].why, "health check"));
    assert_true(strncmp(y->i[0].address, "10.251.7.", 9) == 0 && strstr(y->i[0].address, ":8080"));
    assert_int_equal(y->n_versions, 1);
    assert_string_equal(y->v[0].v.name, "1.4.2");
    assert_string_equal(y->v[0].v.digest, y->v1);
    assert_string_equal(y->v[0].image, "town/agent:v1");
    assert_int_equal(y->v[0].v.data_schema, 7);
    assert_false(y->v[0].v.gaps);
    fclose(fopen(well, "we"));
    assert_true(harness_until(healthy, y, 3 * HARNESS_WAIT_MS));
    drop_all(y);
}

/* A version that is made anew by hand is the same version; with another environment it is another. */
static void same_version(void **state)
{
    struct yard *y = *state;
    KIT(y);
    char first[ROLLBACK_ID];
    make_container(y, "agent", plain("town/agent:v1"));
    view_ok(y);
    snprintf(first, sizeof first, "%s", y->v[0].v.id);
    drop_container(y, "agent");
    make_container(y, "agent", plain("town/agent:v1"));
    view_ok(y);
    assert_string_equal(y->v[0].v.id, first);
    drop_container(y, "agent");
    json_t *b = plain("town/agent:v1");
    json_object_set_new(b, "Env", json_pack("[s]", "ONE=2"));
    make_container(y, "agent", b);
    view_ok(y);
    assert_string_not_equal(y->v[0].v.id, first);
    drop_all(y);
}

/* ---- what is refused, before anything is changed ---- */

static struct executor_version seen_as(struct yard *y, json_t *body)
{
    make_container(y, "agent", body);
    view_ok(y);
    assert_int_equal(y->n_versions, 1);
    struct executor_version v = copy_version(&y->v[0]);
    drop_container(y, "agent");
    return v;
}

static void refused_spec(struct yard *y, json_t *body, const char *words)
{
    struct executor_version v = seen_as(y, body);
    struct executor_order o = order(y, "job", &v, 1, 1);
    assert_true(v.n_gaps > 0 && v.v.gaps);
    refused(y, &o, words);
    assert_true(y->lasting);
    free(v.spec);
}

static json_t *with_host(const char *key, json_t *value)
{
    json_t *b = plain("town/agent:v1");
    json_object_set_new(json_object_get(b, "HostConfig"), key, value);
    return b;
}

static void refusals_of_specs(void **state)
{
    struct yard *y = *state;
    KIT(y);
    refused_spec(y, with_host("PortBindings", json_pack("{s[{ss}]}", "8080/tcp", "HostPort", "18080")),
                 "port 18080 of the host");
    refused_spec(y, with_host("AutoRemove", json_true()), "--rm");
    refused_spec(y, with_host("NetworkMode", json_string("host")), "host's own network");
    json_t *b = plain("town/agent:v1");
    json_object_set_new(
        b, "NetworkingConfig",
        json_pack("{s{s{s{ss}}}}", "EndpointsConfig", "front", "IPAMConfig", "IPv4Address", "10.251.7.77"));
    refused_spec(y, b, "fixed address 10.251.7.77");
    b = plain("town/agent:v1");
    json_object_set_new(b, "MacAddress", json_string("02:42:0a:00:00:77"));
    refused_spec(y, b, "fixed MAC");
    run_container(y, "other", plain("town/agent:v1"));
    refused_spec(y, with_host("NetworkMode", json_string("container:other")), "network of another container");
    drop_all(y);
}

/* As compose does with `configs:`: put in after the container is made, by an archive, and no inspect tells of it. */
static void refusal_of_put_files(void **state)
{
    struct yard *y = *state;
    KIT(y);
    char command[700], tar[260], *bytes = calloc(1, 65536);
    make_container(y, "agent", plain("town/agent:v1"));
    snprintf(tar, sizeof tar, "%s/put.tar", harness_dir(y->h));
    snprintf(command, sizeof command, "cd %s && mkdir -p in && echo x > in/policy.yaml && tar cf %s in/policy.yaml",
             harness_dir(y->h), tar);
    assert_int_equal(system(command), 0);
    FILE *f = fopen(tar, "re");
    size_t n = fread(bytes, 1, 65536, f);
    fclose(f);
    assert_int_equal(
        docker_kit_exchange(y->k, "PUT", "/containers/agent/archive?path=/", "application/x-tar", bytes, n, NULL),
        200);
    docker_kit_do(y->k, "POST", "/containers/agent/start", NULL);
    free(bytes);
    view_ok(y);
    assert_int_equal(y->v[0].n_gaps, 1);
    assert_non_null(strstr(y->v[0].gap[0], "/in/policy.yaml was put into the container"));
    struct executor_version v = copy_version(&y->v[0]);
    struct executor_order o = order(y, "job", &v, 1, 1);
    refused(y, &o, "/in/policy.yaml");
    y->set.docker.force_unsupported = true;
    act_ok(y, executor_docker.check, &o);
    y->set.docker.force_unsupported = false;
    free(v.spec);
    drop_all(y);
}

static void refusals_of_the_host(void **state)
{
    struct yard *y = *state;
    KIT(y);
    struct executor_version v = seen_as(y, with_host("Binds", json_pack("[s]", "learning:/data")));
    struct executor_order o = order(y, "job", &v, 1, 1), bad = o;
    make_container(y, "agent", plain("town/agent:v2"));
    json_t *before = all(y);
    act_ok(y, executor_docker.check, &o);
    bad.digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    refused(y, &bad, "is not on this host");
    bad = o;
    bad.spec = "[1,2";
    bad.spec_len = 4;
    refused(y, &bad, "is no spec of the docker executor");
    bad.spec = NULL;
    refused(y, &bad, "was never recorded");
    docker_kit_do(y->k, "DELETE", "/volumes/learning", NULL);
    refused(y, &o, "volume learning is not there");
    docker_kit_do(y->k, "POST", "/volumes/create", json_pack("{ss}", "Name", "learning"));
    json_t *spec = json_loads(v.spec, 0, NULL);
    json_object_set_new(json_object_get(spec, "Networks"), "gone", json_object());
    char *text = json_dumps(spec, 0);
    bad = o;
    bad.spec = text;
    bad.spec_len = strlen(text);
    refused(y, &bad, "network gone is not there");
    json_t *after = all(y);
    assert_int_equal(json_array_size(after), json_array_size(before));
    struct docker_aim aim = {.set = &y->set, .job = "job", .version = v.v.id, .side = 1};
    char name[160];
    docker_instance_name(&aim, 0, name);
    make_container(y, name, plain("town/agent:v2"));
    refused(y, &o, "is taken by a container");
    act(y, executor_docker.up, &o);
    assert_false(y->ok);
    assert_non_null(strstr(y->text, "is taken by a container"));
    drop_all(y);
    json_t *rm = plain("town/agent:v2");
    json_object_set_new(json_object_get(rm, "HostConfig"), "AutoRemove", json_true());
    run_container(y, "agent", rm);
    refused(y, &o, "no way back to it");
    char why[400];
    assert_true(docker_room("/", 1, why, sizeof why));
    assert_true(docker_room("/no/such/place", UINT64_MAX, why, sizeof why));
    assert_false(docker_room("/", UINT64_MAX, why, sizeof why));
    assert_non_null(strstr(why, "docker system df"));
    json_decref(before);
    json_decref(after);
    json_decref(spec);
    free(text);
    free(v.spec);
    drop_all(y);
}

/* ---- the way of a rollback, cut everywhere ---- */

static void same_text(const json_t *a, const json_t *b, const char *key)
{
    char *x = json_dumps(json_object_get(a, key), JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    char *z = json_dumps(json_object_get(b, key), JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (x && z ? strcmp(x, z) != 0 : x || z)
        fail_msg("%s differs: %s, %s", key, x ? x : "-", z ? z : "-");
    free(x);
    free(z);
}

/* What the first container had, the one that is made in its place has: byte for byte. */
static void same_container(struct yard *y, const json_t *was, const json_t *former, const char *name)
{
    json_t *is = inspect(y, name), *image = docker_kit_call(y->k, "GET", "/images/town%2Fagent:v1/json", NULL, NULL);
    json_t *a = docker_spec_make(was, image), *b = docker_spec_make(is, image), *f = docker_spec_make(former, image);
    static const char *const parts[] = {"Config", "HostConfig", "Networks", "Image"};
    static const char *const config[] = {"Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts"};
    static const char *const host[] = {"Memory",         "Ulimits",   "CapDrop",    "SecurityOpt",
                                       "ExtraHosts",     "LogConfig", "Tmpfs",      "RestartPolicy",
                                       "ReadonlyRootfs", "PidsLimit", "MaskedPaths"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        same_text(a, b, parts[i]);
    for (size_t i = 0; i < sizeof config / sizeof *config; i++)
        same_text(json_object_get(was, "Config"), json_object_get(is, "Config"), config[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        same_text(json_object_get(was, "HostConfig"), json_object_get(is, "HostConfig"), host[i]);
    assert_int_equal(json_array_size(json_object_get(was, "Mounts")), json_array_size(json_object_get(is, "Mounts")));
    same_text(f, b, "Unnamed"); /* what has been learnt until now stays: of the one whose place it takes */
    json_decref(a);
    json_decref(b);
    json_decref(f);
    json_decref(is);
    json_decref(image);
}

static void cut_everywhere(void **state)
{
    struct yard *y = *state;
    KIT(y);
    unsigned cuts = 0;
    by_compose(y, true);
    deploy_rich(y, "town/agent:v1", 2);
    view_ok(y);
    assert_int_equal(y->n, 2);
    assert_int_equal(y->n_versions, 1);
    assert_false(y->v[0].v.gaps);
    struct executor_version v1 = copy_version(&y->v[0]);
    json_t *was = inspect(y, "town-agent-1");
    /* Somebody deploys v2, which keeps the volumes, as compose does. */
    drop_container(y, "town-agent-1");
    drop_container(y, "town-agent-2");
    deploy_rich(y, "town/agent:v2", 2);
    view_ok(y);
    struct executor_version v2 = copy_version(&y->v[0]);
    json_t *former = inspect(y, "town-agent-1");
    assert_string_not_equal(v1.v.id, v2.v.id);
    struct executor_order to = order(y, "job 1/ä", &v1, 1, 2), from = order(y, "job 1/ä", &v2, 0, 2);
    act_ok(y, executor_docker.check, &to);
    act_cut(y, executor_docker.up, &to, &cuts);
    view_ok(y);
    assert_int_equal(y->n, 4);
    assert_int_equal(count_side(y, 1, true), 2);
    assert_int_equal(count_side(y, 0, true), 2); /* nothing was stopped */
    for (size_t i = 0; i < y->n; i++) {
        assert_string_equal(y->i[i].job, y->i[i].side ? "job 1/ä" : "");
        assert_string_equal(y->i[i].version, y->i[i].side ? v1.v.id : v2.v.id);
        assert_true(y->i[i].ready);
    }
    act_cut(y, executor_docker.stop, &from, &cuts);
    view_ok(y);
    assert_int_equal(count_side(y, 0, false), 2);
    assert_int_equal(count_side(y, 1, true), 2);
    /* The host restarts: what was stopped stays so, what runs comes back. */
    docker_kit_restart(y->k);
    reopen(y);
    view_ok(y);
    assert_int_equal(count_side(y, 0, true), 0);
    assert_int_equal(count_side(y, 1, true), 2);
    act_cut(y, executor_docker.start, &from, &cuts); /* an abort */
    view_ok(y);
    assert_int_equal(count_side(y, 0, true), 2);
    json_t *again = inspect(y, "town-agent-1");
    assert_string_equal(docker_text(json_object_get(json_object_get(again, "HostConfig"), "RestartPolicy"), "Name"),
                        "always");
    json_decref(again);
    act(y, executor_docker.remove, &from);
    assert_false(y->ok); /* it runs, and others have made it */
    act_cut(y, executor_docker.stop, &from, &cuts);
    act_cut(y, executor_docker.settle, &to, &cuts); /* before the former is removed, or after: both must do */
    act_cut(y, executor_docker.remove, &from, &cuts);
    act_cut(y, executor_docker.settle, &to, &cuts);
    view_ok(y);
    assert_int_equal(y->n, 2);
    json_t *list = all(y);
    assert_int_equal(json_array_size(list), 2); /* nothing is left behind */
    json_decref(list);
    same_container(y, was, former, "town-agent-1");
    json_t *two = inspect(y, "town-agent-2");
    assert_string_equal(
        docker_text(json_object_get(json_object_get(two, "Config"), "Labels"), DOCKER_COMPOSE "container-number"),
        "2");
    json_decref(two);
    json_decref(docker_kit_call(y->k, "GET", "/volumes/data", NULL, NULL));
    print_message("cut %u times\n", cuts);
    assert_true(cuts > CUT_LEAST);
    json_decref(was);
    json_decref(former);
    free(v1.spec);
    free(v2.spec);
    drop_all(y);
}

/* A target that is made in vain is removed again, and the one who stood stands: its volumes without a name, too. */
static void there_and_back(void **state)
{
    struct yard *y = *state;
    KIT(y);
    struct executor_version v1 = seen_as(y, plain("town/agent:v1"));
    run_container(y, "agent", plain("town/agent:v2"));
    view_ok(y);
    json_t *stood = inspect(y, "agent");
    char volume[80];
    snprintf(volume, sizeof volume, "%s", docker_text(json_array_get(json_object_get(stood, "Mounts"), 0), "Name"));
    struct executor_order to = order(y, "one", &v1, 1, 1);
    act_ok(y, executor_docker.up, &to);
    act_ok(y, executor_docker.up, &to);
    view_ok(y);
    assert_int_equal(y->n, 2);
    for (size_t i = 0; i < y->n; i++)
        if (y->i[i].side == 1) {
            json_t *made = inspect(y, y->i[i].handle);
            assert_string_equal(docker_text(json_array_get(json_object_get(made, "Mounts"), 0), "Name"), volume);
            json_decref(made);
        }
    act_ok(y, executor_docker.remove, &to); /* of our own, so it is stopped first */
    view_ok(y);
    assert_int_equal(y->n, 1);
    assert_true(y->i[0].running);
    char path[200];
    snprintf(path, sizeof path, "/volumes/%s", volume);
    json_decref(docker_kit_call(y->k, "GET", path, NULL, NULL));
    /* One that ends at once is not started for ever. */
    json_t *spec = json_loads(v1.spec, 0, NULL);
    json_object_set_new(json_object_get(spec, "Config"), "Cmd", json_pack("[sss]", "say", "no licence", "3"));
    char *text = json_dumps(spec, 0);
    to.spec = text;
    to.spec_len = strlen(text);
    act_ok(y, executor_docker.up, &to); /* it runs, for a moment */
    do
        view_ok(y);
    while (count_side(y, 1, true) > 0);
    for (size_t i = 0; i < y->n; i++)
        if (y->i[i].side == 1)
            assert_non_null(strstr(y->i[i].why, "ended with 3"));
    act_ok(y, executor_docker.remove, &to);
    json_decref(stood);
    json_decref(spec);
    free(text);
    free(v1.spec);
    drop_all(y);
}

/* ---- images that are kept; commands ---- */

static int image_status(struct yard *y, const char *ref)
{
    char path[300];
    int status;
    snprintf(path, sizeof path, "/images/%s/json", ref);
    json_decref(docker_kit_call(y->k, "GET", path, NULL, &status));
    return status;
}

static void kept(void **state)
{
    struct yard *y = *state;
    KIT(y);
    char id[80], tag[120];
    docker_kit_image(y->k, "town/agent", "v3", "&changes=ENTRYPOINT%20%5B%22%2Fagent%22%5D", id);
    struct executor_version v = seen_as(y, plain("town/agent:v3"));
    struct executor_order o = order(y, "job", &v, 1, 1);
    y->done = false;
    executor_docker.keep(y->x, &o, true, on_result, y);
    finish(y);
    assert_true(y->ok);
    docker_kit_do(y->k, "DELETE", "/images/town%2Fagent:v3", NULL); /* the name moves on, as with each deployment */
    docker_kit_do(y->k, "POST", "/images/prune", NULL);
    assert_int_equal(image_status(y, id), 200);
    act_ok(y, executor_docker.check, &o);
    snprintf(tag, sizeof tag, "redoubt/keep:mcp.%s", v.v.id);
    assert_int_equal(image_status(y, tag), 200);
    act_ok(y, executor_docker.up, &o);
    for (int k = 0; k < 2; k++) { /* used by a container: the tag stays, and that is no failure */
        y->done = false;
        executor_docker.keep(y->x, &o, false, on_result, y);
        finish(y);
        assert_true(y->ok);
        assert_int_equal(image_status(y, id), k == 0 ? 200 : 404);
        drop_all(y);
    }
    refused(y, &o, "is not on this host");
    free(v.spec);
}

static void run(struct yard *y, const struct executor_order *o, const char *const *argv)
{
    y->done = false;
    executor_docker.run(y->x, o, argv, on_result, y);
    finish(y);
}

static void commands(void **state)
{
    struct yard *y = *state;
    KIT(y);
    run_container(y, "agent", plain("town/agent:v1"));
    view_ok(y);
    struct executor_version v = copy_version(&y->v[0]);
    struct executor_order o = order(y, "job", &v, 0, 1);
    const char *good[] = {"/agent", "say", "migrated", "0", NULL}, *bad[] = {"/agent", "say", "cannot", "4", NULL};
    const char *none[] = {"/no-such", NULL};
    run(y, &o, bad);
    assert_false(y->ok);
    assert_non_null(strstr(y->text, "ended with 4: cannot"));
    run(y, &o, none);
    assert_false(y->ok);
    /* Cut everywhere, it is run once. */
    for (unsigned turns = 1;; turns += 3) {
        y->done = false;
        executor_docker.run(y->x, &o, good, on_result, y);
        for (unsigned k = 0; k < turns && !y->done; k++)
            uv_run(&y->s.loop.uv, UV_RUN_ONCE);
        if (y->done && y->ok)
            break;
        if (!y->done)
            reopen(y);
        assert_true(turns < 2000);
    }
    assert_string_equal(y->text, "migrated");
    run(y, &o, good);
    assert_true(y->ok);
    view_ok(y);
    assert_int_equal(y->n, 1); /* a command is no instance */
    act_ok(y, executor_docker.stop, &o);
    act_ok(y, executor_docker.remove, &o);
    json_t *list = all(y);
    size_t left = json_array_size(list);
    json_decref(list);
    assert_true(left <= 1); /* of the command that is not there */
    free(v.spec);
    drop_all(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(away),
        cmocka_unit_test(closed_in_the_middle),
        cmocka_unit_test(seen),
        cmocka_unit_test(same_version),
        cmocka_unit_test(refusals_of_specs),
        cmocka_unit_test(refusal_of_put_files),
        cmocka_unit_test(refusals_of_the_host),
        cmocka_unit_test(cut_everywhere),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(kept),
        cmocka_unit_test(commands),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
