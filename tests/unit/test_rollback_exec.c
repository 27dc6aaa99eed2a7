/* test_rollback_exec.c - ids and hashes of versions, names in arguments, what `view` programs print. */
#include "rollback/executor_exec_view.h"
#include "rollback/rollback_fill.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void an_id_is_made_of_digest_and_configuration(void **state)
{
    (void)state;
    char a[65], b[65], id[ROLLBACK_ID], other[ROLLBACK_ID];
    json_t *x = json_loads("{\"b\": [1, {\"z\": null, \"a\": \"\xc3\xa9\"}], \"a\": true}", 0, NULL);
    json_t *y = json_loads("{\"a\":true,\"b\":[1,{\"a\":\"\\u00e9\",\"z\":null}]}", 0, NULL);
    assert_string_equal(executor_config_hash(x, a), executor_config_hash(y, b)); /* order and blanks do not count */
    assert_int_equal(strlen(a), 64);
    assert_int_equal(strspn(a, "0123456789abcdef"), 64);
    json_object_set_new(y, "a", json_false());
    assert_string_not_equal(a, executor_config_hash(y, b));
    json_t *empty = json_object();
    /* printf '{}' | sha256sum */
    assert_string_equal(executor_config_hash(empty, b),
                        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    /* printf 'sha256:1\n44136f...' | sha256sum | cut -c1-16 */
    assert_string_equal(executor_version_id("sha256:1", b, id), "ce7ccfef72029a28");
    assert_string_not_equal(executor_version_id("sha256:1", a, other), id);
    assert_string_not_equal(executor_version_id("sha256:2", b, other), id);
    json_decref(x);
    json_decref(y);
    json_decref(empty);
}

static void names_become_texts(void **state)
{
    (void)state;
    const struct fill_name names[] = {{"version", "v1; rm -rf \"$HOME\""},
                                      {"side", "0"},
                                      {"evil", "-rf"},
                                      {"line", "a\nb"},
                                      {"none", NULL},
                                      {"empty", ""}};
    const struct {
        const char *text, *filled, *why;
    } rows[] = {
        {"", "", NULL},
        {"plain {x} }} {", "plain {x} }} {", NULL},
        {"{{version}}", "v1; rm -rf \"$HOME\"", NULL},
        {"--v={{ version }}/{{side}}", "--v=v1; rm -rf \"$HOME\"/0", NULL},
        {"--x={{evil}}", "--x=-rf", NULL},
        {"{{empty}}x", "x", NULL},
        {"{{evil}}", NULL, "would be taken for an option"},
        {"{{evil}}/a", NULL, "would be taken for an option"},
        {"a{{line}}", NULL, "holds a control character"},
        {"a{{none}}", NULL, "{{none}} has no value here"},
        {"{{sides}}", NULL, "there is no {{sides}}"},
        {"{{}}", NULL, "there is no {{}}"},
        {"a{{side", NULL, "{{ without }}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {""};
        char *filled = fill_text(rows[i].text, names, sizeof names / sizeof *names, &e);
        if (rows[i].filled)
            assert_string_equal(filled, rows[i].filled);
        else
            assert_null(filled);
        if (rows[i].why)
            assert_non_null(strstr(e.text, rows[i].why));
        free(filled);
    }
    const char *items[] = {"/bin/{{side}}", "{{side}}", "x{{ version }}"};
    const struct conf_list command = {items, 3};
    struct err e = {""};
    char **argv = fill_argv(&command, names, 6, &e);
    assert_string_equal(argv[0], "/bin/{{side}}"); /* the program is the settings' alone */
    assert_string_equal(argv[1], "0");
    assert_string_equal(argv[2], "xv1; rm -rf \"$HOME\"");
    assert_null(argv[3]);
    fill_free(argv);
    assert_true(fill_uses(&command, "version"));
    assert_true(fill_uses(&command, "side"));
    assert_false(fill_uses(&command, "evil"));
    assert_true(fill_known(&command, names, 6, &e));
    assert_false(fill_known(&command, names + 1, 5, &e));
    assert_string_equal(e.text, "there is no {{version}}");
    const char *others[] = {"/bin/a", "/bin/{{side}}"};
    assert_true(fill_allowed(&(struct conf_list){others, 2}, &command));
    assert_false(fill_allowed(&(struct conf_list){others, 1}, &command));
    assert_false(fill_allowed(&(struct conf_list){others, 2}, &(struct conf_list){NULL, 0}));
}

static const char good[] =
    "{\"versions\":["
    "{\"name\":\"v1\",\"digest\":\"sha256:1\",\"image\":\"a:v1\",\"schema\":3,\"spec\":{\"b\":1,\"a\":[]},\"gaps\":["
    "\"x is not known\"]},"
    "{\"name\":\"v2\",\"digest\":\"sha256:2\",\"spec\":{}}],"
    "\"instances\":["
    "{\"handle\":\"h1\",\"name\":\"one\",\"version\":\"v1\",\"address\":\"127.0.0.1:80\",\"side\":1,\"job\":\"j1\","
    "\"running\":true,\"ready\":true},"
    "{\"handle\":\"h2\",\"version\":\"v2\",\"running\":true,\"ready\":false,\"why\":\"it is starting\"}]}";

static void what_runs_is_read(void **state)
{
    (void)state;
    struct exec_view *v = calloc(1, sizeof *v);
    struct err e = {""};
    assert_int_equal(exec_view_read(good, strlen(good), v, &e), 0);
    assert_int_equal(v->n_versions, 2);
    assert_int_equal(v->n, 2);
    const struct executor_version *x = &v->versions[0];
    char hash[65], id[ROLLBACK_ID];
    json_t *spec = json_loads("{\"a\":[],\"b\":1}", 0, NULL);
    assert_string_equal(x->spec, "{\"a\":[],\"b\":1}");
    assert_int_equal(x->spec_len, strlen(x->spec));
    assert_string_equal(x->v.config_hash, executor_config_hash(spec, hash));
    assert_string_equal(x->v.id, executor_version_id("sha256:1", hash, id));
    assert_string_equal(x->v.name, "v1");
    assert_string_equal(x->image, "a:v1");
    assert_int_equal(x->v.data_schema, 3);
    assert_true(x->v.gaps);
    assert_int_equal(x->n_gaps, 1);
    assert_string_equal(x->gap[0], "x is not known");
    assert_false(v->versions[1].v.gaps);
    const struct executor_instance *i = v->instances;
    assert_string_equal(i[0].version, x->v.id);
    assert_string_equal(i[0].address, "127.0.0.1:80");
    assert_string_equal(i[0].name, "one");
    assert_string_equal(i[0].job, "j1");
    assert_int_equal(i[0].side, 1);
    assert_true(i[0].ready);
    assert_string_equal(i[1].name, "h2"); /* its handle */
    assert_int_equal(i[1].side, 0);
    assert_string_equal(i[1].why, "it is starting");
    exec_view_done(v);
    json_decref(spec);
    assert_int_equal(exec_view_read("{\"versions\":[],\"instances\":[]}", 30, v, &e), 0);
    assert_int_equal(v->n, 0);
    free(v);
}

/* One thing of the good one is made wrong. */
static void what_is_wrong_is_refused_whole(void **state)
{
    (void)state;
    const struct {
        const char *from, *to, *why;
    } rows[] = {
        {"\"instances\":[", "\"instances\":[[],", "instances[0] is not an object"},
        {"\"versions\":[", "\"more\":1,\"versions\":[", "and nothing else"},
        {"{\"versions\"", "{\"version\"", "allowed is {\"versions\""},
        {"]}", "]", "not JSON: line 1"},
        {"\"schema\":3", "\"schema\":-1", "versions[0].schema: allowed is a whole number"},
        {"\"schema\":3", "\"schema\":\"3\"", "versions[0].schema"},
        {"\"schema\":3", "\"scheme\":3", "versions[0]: `scheme` is not known here"},
        {"\"digest\":\"sha256:1\",", "", "versions[0] has no `digest`"},
        {"\"digest\":\"sha256:1\"", "\"digest\":\"\"", "versions[0].digest"},
        {"\"digest\":\"sha256:1\"", "\"digest\":\"-rf\"", "does not begin with `-`"},
        {"\"digest\":\"sha256:1\"", "\"digest\":\"a\\u0007\"", "without control characters"},
        {"\"digest\":\"sha256:1\"", "\"digest\":\"a\",\"digest\":\"b\"", "not JSON: line 1"}, /* twice */
        {"\"name\":\"v2\"", "\"name\":\"v1\"", "versions[1].name: `v1` stands there twice"},
        {"\"spec\":{}", "\"spec\":[]", "versions[1].spec: allowed is an object"},
        {"\"gaps\":[", "\"gaps\":[1,", "versions[0].gaps"},
        {"\"gaps\":[", "\"gaps\":[\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",", "a list of up to 8 texts"},
        {"\"version\":\"v2\"", "\"version\":\"v3\"", "instances[1].version: `v3` is none of `versions`"},
        {"\"handle\":\"h2\"", "\"handle\":\"h1\"", "instances[1].handle: `h1` stands there twice"},
        {"127.0.0.1:80", "127.0.0.1", "allowed is host:port"},
        {"\"side\":1", "\"side\":2", "instances[0].side"},
        {"\"side\":1", "\"side\":0.5", "instances[0].side"},
        {"\"running\":true,\"ready\":true", "\"running\":false,\"ready\":true", "is ready, but does not run"},
        {"\"running\":true,\"ready\":true", "\"running\":true,\"ready\":1",
         "instances[0].ready: allowed is true or false"},
    };
    struct exec_view *v = calloc(1, sizeof *v);
    char text[2048];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *at = strstr(good, rows[i].from);
        struct err e = {""};
        assert_non_null(at);
        if (strcmp(rows[i].from, "]}") == 0) /* the last one */
            at = good + strlen(good) - 2;
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, rows[i].to, at + strlen(rows[i].from));
        assert_int_equal(exec_view_read(text, strlen(text), v, &e), -1);
        if (!strstr(e.text, rows[i].why))
            fail_msg("row %zu: %s", i, e.text);
        assert_int_equal(v->n + v->n_versions, 0);
    }
    /* Any cut of it, too. */
    for (size_t n = 0; n < strlen(good); n++) {
        struct err e = {""};
        assert_int_equal(exec_view_read(good, n, v, &e), -1);
        assert_true(*e.text);
    }
    free(v);
}

static void too_many_are_refused(void **state)
{
    (void)state;
    struct exec_view *v = calloc(1, sizeof *v);
    struct err e = {""};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    fprintf(f, "{\"versions\":[{\"name\":\"v\",\"digest\":\"d\",\"spec\":{}}],\"instances\":[");
    for (int i = 0; i <= EXECUTOR_INSTANCES; i++)
        fprintf(f, "%s{\"handle\":\"h%d\",\"version\":\"v\",\"running\":true,\"ready\":true}", i ? "," : "", i);
    fprintf(f, "]}");
    fclose(f);
    assert_int_equal(exec_view_read(text, len, v, &e), -1);
    assert_non_null(strstr(e.text, "65 instances; up to 16 and 64"));
    free(text);
    f = open_memstream(&text, &len);
    fprintf(f, "{\"versions\":[{\"name\":\"v\",\"digest\":\"d\",\"spec\":{\"a\":\"%*d\"}}],\"instances\":[]}",
            EXEC_SPEC_MAX, 1);
    fclose(f);
    assert_int_equal(exec_view_read(text, len, v, &e), -1);
    assert_non_null(strstr(e.text, "up to 49152 are recorded"));
    free(text);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_made_of_digest_and_configuration),
        cmocka_unit_test(names_become_texts),
        cmocka_unit_test(what_runs_is_read),
        cmocka_unit_test(what_is_wrong_is_refused_whole),
        cmocka_unit_test(too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
