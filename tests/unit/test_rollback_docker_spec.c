/* test_rollback_docker_spec.c - create specs out of what inspect says, and back; the next step out of what stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "rollback/executor_docker.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static json_t *parse(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j)
        fail_msg("fixture: %s at %d", e.text, e.position);
    return j;
}

static const char image_text[] =
    "{\"Id\":\"sha256:" HEX
    "\",\"RepoDigests\":[\"reg/agent@sha256:aa\"],\"Os\":\"linux\",\"Architecture\":\"amd64\",\"Config\":{"
    "\"Env\":[\"PATH=/bin\",\"MODE=safe\"],\"Cmd\":[\"serve\"],\"Entrypoint\":[\"/agent\"],\"WorkingDir\":\"/"
    "w\",\"User\":\"app\","
    "\"Labels\":{\"maker\":\"us\",\"io.redoubt.data-schema\":\"12\"},\"ExposedPorts\":{\"8080/"
    "tcp\":{}},\"Volumes\":{\"/learnt\":{}},"
    "\"Healthcheck\":{\"Test\":[\"CMD\",\"/h\"]}}}";
static const char container_text[] =
    "{\"Id\":\"" HEX "\",\"Name\":\"/agent\",\"Image\":\"sha256:" HEX "\",\"Created\":\"2026-01-01T10:00:00.5Z\","
    "\"State\":{\"Status\":\"running\",\"Running\":true,\"StartedAt\":\"2026-01-01T10:00:01.5Z\"},\"Config\":{"
    "\"Hostname\":\"0123456789ab\",\"Env\":[\"B=2\",\"A=1\",\"PATH=/bin\",\"MODE=safe\"],\"Cmd\":[\"serve\"],"
    "\"Entrypoint\":[\"/agent\"],\"WorkingDir\":\"/w\",\"User\":\"app\",\"Image\":\"reg/"
    "agent:1.4\",\"AttachStdout\":true,"
    "\"Labels\":{\"maker\":\"us\",\"io.redoubt.data-schema\":\"12\",\"team\":\"blue\"},\"ExposedPorts\":{\"8080/"
    "tcp\":{},\"9/udp\":{}},"
    "\"Volumes\":{\"/learnt\":{}},\"Healthcheck\":{\"Test\":[\"CMD\",\"/"
    "h\"]}},\"HostConfig\":{\"NetworkMode\":\"n1\","
    "\"Binds\":[\"vol:/v:ro\"],\"RestartPolicy\":{\"Name\":\"always\",\"MaximumRetryCount\":0},\"ShmSize\":67108864,"
    "\"Runtime\":\"runc\",\"ConsoleSize\":[0,0],\"CapAdd\":null,\"Memory\":1000,\"MemorySwappiness\":0,\"Links\":[\"/"
    "db:/agent/store\"],"
    "\"MaskedPaths\":[\"/proc/"
    "kcore\"],\"ReadonlyPaths\":[]},\"Mounts\":[{\"Type\":\"volume\",\"Name\":\"vol\",\"Destination\":\"/v\"},"
    "{\"Type\":\"volume\",\"Name\":\"" HEX
    "\",\"Destination\":\"/learnt\"}],\"NetworkSettings\":{\"Networks\":{\"n1\":{"
    "\"IPAMConfig\":null,\"Aliases\":[\"x\",\"0123456789ab\",\"agent\"],\"NetworkID\":\"77\",\"IPAddress\":\"10.0.0."
    "2\","
    "\"MacAddress\":\"02:42\"},\"n2\":{\"IPAMConfig\":{},\"Aliases\":null,\"IPAddress\":\"10.1.0.2\"}}}}";

static void same(const json_t *is, const char *text)
{
    json_t *want = json_loads(text, JSON_DECODE_ANY, NULL);
    char *got = json_dumps(is, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    assert_non_null(want);
    if (!json_equal(is, want))
        fail_msg("wanted %s, got %s", text, got);
    json_decref(want);
    free(got);
}

static void subtracts(void **state)
{
    (void)state;
    json_t *c = parse(container_text), *i = parse(image_text), *spec = docker_spec_make(c, i);
    same(json_object_get(spec, "Config"),
         "{\"Env\":[\"B=2\",\"A=1\"],\"Labels\":{\"team\":\"blue\"},\"ExposedPorts\":{\"9/udp\":{}}}");
    same(json_object_get(spec, "HostConfig"),
         "{\"NetworkMode\":\"n1\",\"Binds\":[\"vol:/"
         "v:ro\"],\"RestartPolicy\":{\"Name\":\"always\",\"MaximumRetryCount\":0},"
         "\"Memory\":1000,\"MemorySwappiness\":0,\"Links\":[\"db:store\"],\"ReadonlyPaths\":[]}");
    same(json_object_get(spec, "Networks"), "{\"n1\":{\"Aliases\":[\"x\"]},\"n2\":{}}");
    same(json_object_get(spec, "Unnamed"), "{\"/learnt\":\"" HEX "\"}");
    assert_string_equal(docker_text(spec, "RepoDigest"), "reg/agent@sha256:aa");
    struct rollback_version v;
    docker_spec_version(spec, i, &v);
    assert_string_equal(v.name, "1.4");
    assert_int_equal(v.data_schema, 12);
    assert_string_equal(v.digest, "sha256:" HEX);
    assert_int_equal(docker_spec_gaps(spec, 8080, NULL, 0), 0);
    json_decref(c);
    json_decref(i);
    json_decref(spec);
}

/* Entrypoint and command go together. "" = as in the image. */
static void commands(void **state)
{
    (void)state;
    static const struct {
        const char *entry, *cmd, *want_entry, *want_cmd;
    } rows[] = {
        {"[\"/agent\"]", "[\"serve\"]", NULL, NULL},    {"[\"/agent\"]", "[\"other\"]", NULL, "[\"other\"]"},
        {"[\"/agent\"]", "null", "[\"/agent\"]", NULL}, {"[\"/else\"]", "[\"serve\"]", "[\"/else\"]", "[\"serve\"]"},
        {"[\"/else\"]", "null", "[\"/else\"]", NULL},   {"null", "[\"serve\"]", "[\"\"]", "[\"serve\"]"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        json_t *c = parse(container_text), *i = parse(image_text), *config = json_object_get(c, "Config");
        json_object_set_new(config, "Entrypoint", json_loads(rows[k].entry, JSON_DECODE_ANY, NULL));
        json_object_set_new(config, "Cmd", json_loads(rows[k].cmd, JSON_DECODE_ANY, NULL));
        json_t *spec = docker_spec_make(c, i), *out = json_object_get(spec, "Config");
        if (rows[k].want_entry)
            same(json_object_get(out, "Entrypoint"), rows[k].want_entry);
        else
            assert_null(json_object_get(out, "Entrypoint"));
        if (rows[k].want_cmd)
            same(json_object_get(out, "Cmd"), rows[k].want_cmd);
        else
            assert_null(json_object_get(out, "Cmd"));
        json_decref(c);
        json_decref(i);
        json_decref(spec);
    }
}

static void set_at(json_t *c, const char *a, const char *b, const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    json_object_set_new(json_object_get(c, a), b, v);
}

/* What differs by itself makes no other version; what somebody chose does. */
static void hashes(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *value;
        bool other;
    } rows[] = {
        {"Config", "Env", "[\"A=1\",\"B=2\",\"MODE=safe\",\"PATH=/bin\"]", false},
        {"Config", "Env", "[\"A=1\",\"B=3\",\"MODE=safe\",\"PATH=/bin\"]", true},
        {"Config", "Env", "[\"A=1\",\"B=2\",\"MODE=lax\",\"PATH=/bin\"]", true},
        {"Config", "Image", "\"reg/agent:moved\"", false},
        {"Config", "Labels",
         "{\"maker\":\"us\",\"io.redoubt.data-schema\":\"12\",\"team\":\"blue\",\"com.docker.compose.config-hash\":"
         "\"9\"}",
         false},
        {"Config", "Labels", "{\"maker\":\"us\",\"io.redoubt.data-schema\":\"12\",\"team\":\"red\"}", true},
        {"Config", "User", "\"root\"", true},
        {"HostConfig", "RestartPolicy", "{\"Name\":\"unless-stopped\",\"MaximumRetryCount\":0}", false},
        {"HostConfig", "RestartPolicy", "{\"Name\":\"no\",\"MaximumRetryCount\":0}", true},
        {"HostConfig", "CgroupnsMode", "\"host\"", false},
        {"HostConfig", "CapDrop", "[\"ALL\"]", true},
        {"HostConfig", "Privileged", "true", true},
        {"HostConfig", "Privileged", "false", false},
        {"HostConfig", "MaskedPaths", "[]", true},
        {"HostConfig", "Binds", "[\"vol:/v:ro\",\"" HEX ":/learnt\"]", false},
        {"HostConfig", "Binds", "[\"vol:/v\"]", true},
    };
    char first[65], hash[65];
    json_t *i = parse(image_text), *c = parse(container_text), *spec = docker_spec_make(c, i);
    docker_spec_hash(spec, first);
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        json_t *d = parse(container_text);
        set_at(d, rows[k].a, rows[k].b, rows[k].value);
        json_t *s = docker_spec_make(d, i);
        docker_spec_hash(s, hash);
        if ((strcmp(first, hash) != 0) != rows[k].other)
            fail_msg("row %zu: %s.%s = %s", k, rows[k].a, rows[k].b, rows[k].value);
        json_decref(d);
        json_decref(s);
    }
    json_decref(c);
    json_decref(i);
    json_decref(spec);
}

static void bodies(void **state)
{
    (void)state;
    json_t *c = parse(container_text), *i = parse(image_text),
           *volumes = parse("{\"/learnt\":\"mine\",\"/else\":\"no\"}");
    set_at(c, "HostConfig", "PortBindings",
           "{\"80/tcp\":[{\"HostPort\":\"80\"}],\"81/tcp\":[{\"HostPort\":\"\"}],\"82/"
           "tcp\":[{\"HostPort\":\"9000-9010\"}]}");
    set_at(c, "HostConfig", "AutoRemove", "true");
    set_at(c, "Config", "MacAddress", "\"02:42:ac:00:00:01\"");
    json_t *spec = docker_spec_make(c, i);
    char gap[8][256];
    assert_int_equal(docker_spec_gaps(spec, 8080, gap, 8), 3);
    struct docker_made m = {.deployment = "d",
                            .job = "j",
                            .version = "v",
                            .home = "agent",
                            .image = "sha256:x",
                            .side = 1,
                            .index = 1,
                            .volumes = volumes};
    json_t *body = docker_create_body(spec, &m), *host = json_object_get(body, "HostConfig");
    same(json_object_get(host, "Binds"), "[\"vol:/v:ro\",\"mine:/learnt\"]");
    same(json_object_get(host, "PortBindings"),
         "{\"81/tcp\":[{\"HostPort\":\"\"}],\"82/tcp\":[{\"HostPort\":\"9000-9010\"}]}");
    assert_null(json_object_get(host, "AutoRemove"));
    assert_null(json_object_get(body, "MacAddress"));
    assert_string_equal(docker_text(body, "Image"), "sha256:x");
    same(json_object_get(body, "NetworkingConfig"), "{\"EndpointsConfig\":{\"n1\":{\"Aliases\":[\"x\"]}}}");
    assert_string_equal(docker_text(json_object_get(body, "Labels"), DOCKER_LABEL_SIDE), "1");
    const char *argv[] = {"/m", "down", NULL};
    json_t *run = docker_run_body(spec, &m, argv);
    same(json_object_get(run, "Entrypoint"), "[\"/m\"]");
    same(json_object_get(run, "Cmd"), "[\"down\"]");
    assert_null(json_object_get(json_object_get(run, "HostConfig"), "RestartPolicy"));
    same(json_object_get(run, "NetworkingConfig"), "{\"EndpointsConfig\":{\"n1\":{}}}");
    json_t *all[] = {c, i, volumes, spec, body, run};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        json_decref(all[k]);
}

/* Whatever the engine (or what poses as one) says, nothing breaks: every member in turn is of another kind. */
static void odd_answers(void **state)
{
    (void)state;
    static const char *const odd[] = {"null", "7", "\"text\"", "[]", "[null,7,{}]", "{}", "{\"a\":null,\"b\":[1]}",
                                      "true"};
    static const char *const places[][2] = {
        {"Config", "Env"},
        {"Config", "Labels"},
        {"Config", "Volumes"},
        {"Config", "Entrypoint"},
        {"Config", "Cmd"},
        {"Config", "Hostname"},
        {"HostConfig", "Binds"},
        {"HostConfig", "Mounts"},
        {"HostConfig", "Links"},
        {"HostConfig", "VolumesFrom"},
        {"HostConfig", "NetworkMode"},
        {"HostConfig", "PortBindings"},
        {"HostConfig", "RestartPolicy"},
        {"HostConfig", "MaskedPaths"},
        {"NetworkSettings", "Networks"},
        {"State", "Health"},
    };
    struct set_deployment set = {
        .name = "d", .docker = {.container = "agent", .project = "", .service = "", .network = "", .port = 1}};
    const struct docker_made m = {.deployment = "d", .job = "j", .version = "v", .home = "h", .image = "i"};
    char gap[8][256];
    for (size_t p = 0; p < sizeof places / sizeof *places; p++)
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
            json_t *c = parse(container_text);
            set_at(c, places[p][0], places[p][1], odd[k]);
            struct docker_container d;
            docker_container_read(&d, c, parse(image_text), &set, 0);
            docker_spec_gaps(d.spec, 1, gap, 8);
            json_decref(docker_create_body(d.spec, &m));
            assert_int_equal(strlen(d.v.id), ROLLBACK_ID - 1);
            docker_container_done(&d);
        }
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        struct docker_container d;
        docker_container_read(&d, json_loads(odd[k], JSON_DECODE_ANY, NULL),
                              json_loads(odd[k], JSON_DECODE_ANY, NULL), &set, 0);
        assert_false(d.i.running);
        docker_container_done(&d);
    }
}

static void small(void **state)
{
    (void)state;
    char buf[200];
    bool whole;
    assert_string_equal(docker_plain_name("/agent-rb-old-0123456789ab", buf), "agent");
    assert_string_equal(docker_plain_name("agent-rb-old-0123456789xy", buf), "agent-rb-old-0123456789xy");
    assert_string_equal(docker_escape("a b/c:ä", buf, sizeof buf), "a%20b%2Fc%3A%C3%A4");
    assert_int_equal(docker_api_agree("1.41"), 41);
    assert_int_equal(docker_api_agree("1.99"), 47);
    assert_int_equal(docker_api_agree("2.0"), 47);
    assert_int_equal(docker_api_agree("1.12"), 0);
    assert_int_equal(docker_api_agree("x"), 0);
    assert_int_equal(docker_time("2026-01-01T01:00:00.25+01:00", &whole),
                     docker_time("2026-01-01T00:00:00.250Z", NULL));
    assert_false(whole);
    assert_int_equal(docker_time("0001-01-01T00:00:00Z", NULL), -1);
    assert_int_equal(docker_time("soon", NULL), -1);
    assert_true(docker_injected("2026-01-01T10:00:01Z", "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:09.5Z"));
    assert_false(docker_injected("2026-01-01T10:00:01.123Z", "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:09.5Z"));
    assert_false(docker_injected("2026-01-01T10:01:01Z", "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:09.5Z"));
    assert_false(docker_injected("2025-01-01T10:00:01Z", "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:09.5Z"));
    static const char framed[] = "\1\0\0\0\0\0\0\5one\n\0\2\0\0\0\0\0\0\3two\1\0\0\0\0\0\0\377cut";
    assert_string_equal(docker_log_text(framed, sizeof framed - 1, false, buf, sizeof buf), "one  twocut");
    assert_string_equal(docker_log_text("123456789", 9, true, buf, 5), "6789");
    assert_string_equal(docker_log_text("\1\0\0", 3, false, buf, 5), "");
}

static json_t *entry(const char *name, const char *labels)
{
    json_t *l = parse(labels);
    return json_pack("{s[s] so}", "Names", name, "Labels", l);
}

static void belongs(void **state)
{
    (void)state;
    struct set_deployment by_name = {.name = "mcp", .docker = {.container = "agent", .project = "", .service = ""}};
    struct set_deployment by_compose = {.name = "mcp", .docker = {.container = "", .project = "p", .service = "s"}};
    static const struct {
        const char *name, *labels;
        bool name_too, compose_too;
    } rows[] = {
        {"/agent", "{}", true, false},
        {"/agent-rb-old-0123456789ab", "{}", true, false},
        {"/other/agent", "{}", false, false},
        {"/agent2", "{}", false, false},
        {"/x", "{\"io.redoubt.deployment\":\"mcp\"}", true, true},
        {"/x", "{\"io.redoubt.deployment\":\"other\"}", false, false},
        {"/x", "{\"com.docker.compose.project\":\"p\",\"com.docker.compose.service\":\"s\"}", false, true},
        {"/x",
         "{\"com.docker.compose.project\":\"p\",\"com.docker.compose.service\":\"s\",\"com.docker.compose.oneoff\":"
         "\"True\"}",
         false, false},
        {"/x", "{\"com.docker.compose.project\":\"p\"}", false, false},
        {"/agent", "{\"io.redoubt.run\":\"j\"}", false, false},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        json_t *e = entry(rows[k].name, rows[k].labels);
        assert_int_equal(docker_belongs(e, &by_name), rows[k].name_too);
        assert_int_equal(docker_belongs(e, &by_compose), rows[k].compose_too);
        json_decref(e);
    }
}

/* ---- where the service itself runs ---- */

#define ID "4f0c41a2b3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e"

static void own_id(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool known;
    } rows[] = {
        {"", false},
        {"no such\nfile\n\n", false},
        {"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n", false},
        {"1 2 0:3 / / rw - overlay o rw\n720 709 254:0 /var/lib/docker/containers/" ID
         "/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n",
         true},
        {"720 709 254:0 /docker/containers/" ID "/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw", true},
        {"720 709 254:0 /containers/x/containers/" ID "/hosts /etc/hosts rw - ext4 /dev/vda rw\n", true},
        /* Somebody has mounted files of another container; an id that is none; a directory of its own by that name. */
        {"720 709 254:0 /var/lib/docker/containers/" ID "/hostname /data/hostname rw - ext4 /dev/vda rw\n", false},
        {"720 709 254:0 /var/lib/docker/containers/4f0c/hostname /etc/hostname rw - ext4 /dev/vda rw\n", false},
        {"720 709 254:0 /var/lib/docker/containers/" ID "0/hostname /etc/hostname rw - ext4 /dev/vda rw\n", false},
        {"720 709 254:0 /var/lib/docker/containers/" ID " /etc/hostname rw - ext4 /dev/vda rw\n", false},
        {"720 709 254:0 /var/lib/kubelet/pods/1/etc-hosts /etc/hosts rw - ext4 /dev/vda rw\n", false},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char id[DOCKER_ID] = "";
        assert_int_equal(docker_own_id(rows[k].text, id), rows[k].known);
        assert_string_equal(id, rows[k].known ? ID : "");
    }
}

static void own_project(void **state)
{
    (void)state;
    json_t *list =
        parse("[1, {}, {\"Id\":\"" ID "\",\"Labels\":{\"com.docker.compose.project\":\"town\"}},"
              "{\"Id\":\"b\",\"Labels\":{\"com.docker.compose.project\":\"other\"}},"
              "{\"Id\":\"c\",\"Labels\":null}, {\"Id\":\"\",\"Labels\":{\"com.docker.compose.project\":\"x\"}}]");
    char project[DOCKER_PROJECT] = "";
    assert_false(docker_own_project(list, "", project));
    assert_false(docker_own_project(list, "c", project));
    assert_false(docker_own_project(list, "nobody", project));
    assert_false(docker_own_project(NULL, ID, project));
    assert_string_equal(project, "");
    assert_true(docker_own_project(list, ID, project));
    assert_string_equal(project, "town");
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subtracts), cmocka_unit_test(commands),    cmocka_unit_test(hashes),
        cmocka_unit_test(bodies),    cmocka_unit_test(odd_answers), cmocka_unit_test(small),
        cmocka_unit_test(belongs),   cmocka_unit_test(own_id),      cmocka_unit_test(own_project),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
