/* test_common_template.c - bodies with {{names}}: what is filled, and what is refused with a text that says where. */
#include "common/template.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *values(void)
{
    json_t *v = json_object();
    json_object_set_new(v, "n", json_integer(3600000));
    json_object_set_new(v, "text", json_string("a \"quoted\" \\ line\nand \xc3\xa9, }} {{n}}"));
    json_object_set_new(v, "comma", json_string(","));
    json_object_set_new(v, "nul", json_stringn("a\0b", 3));
    json_object_set_new(v, "object", json_pack("{s:s, s:[i,i]}", "k", "v", "l", 1, 2));
    json_object_set_new(v, "null", json_null());
    return v;
}

static json_t *filled(const char *text)
{
    struct err e = {""};
    json_t *v = values();
    char *out = template_fill(text, v, &e);
    if (!out)
        fail_msg("%s: %s", text, e.text);
    json_t *j = json_loads(out, JSON_ALLOW_NUL, NULL);
    assert_non_null(j);
    free(out);
    json_decref(v);
    return j;
}

static void names_become_json_values(void **state)
{
    (void)state;
    json_t *v = values();
    json_t *j =
        filled("{\"duration\": {{n}}, \"why\":{{ text }}, \"all\": [{{object}},{{\tnull\n}}], \"z\":{{nul}}}");
    assert_int_equal(json_integer_value(json_object_get(j, "duration")), 3600000);
    assert_true(json_equal(json_object_get(j, "why"), json_object_get(v, "text")));
    assert_true(json_equal(json_array_get(json_object_get(j, "all"), 0), json_object_get(v, "object")));
    assert_true(json_is_null(json_array_get(json_object_get(j, "all"), 1)));
    assert_true(json_equal(json_object_get(j, "z"), json_object_get(v, "nul")));
    json_decref(j);
    j = filled("{\"o\":{{object}}}");
    assert_true(json_equal(json_object_get(j, "o"), json_object_get(v, "object")));
    json_decref(j);
    j = filled("{\"a\":{\"b\":\"}} \\\" \\\\\"}}"); /* no name in it: as it is */
    assert_string_equal(json_string_value(json_object_get(json_object_get(j, "a"), "b")), "}} \" \\");
    json_decref(j);
    json_decref(v);
    struct err e;
    char *empty = template_fill("", NULL, &e);
    assert_string_equal(empty, "");
    free(empty);
}

static void what_cannot_be_filled_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"{\"a\": {{n}", "byte 6: {{ without }}"},
        {"{\"a\": {{}}}", "byte 6: {{ }} holds no name"},
        {"{\"a\": {{  }}}", "byte 6: {{ }} holds no name"},
        {"{\"a\": {{other}}}", "byte 6: there is no {{other}}"},
        {"{\"a\": {{N}}}", "there is no {{N}}"},
        {"{\"a\": \"{{text}}\"}", "byte 7: {{text}} stands between quotes"},
        {"[\"x {{comma}} y\"]", "byte 4: {{comma}} stands between quotes"},
        {"{\"a\": {{n}}", "not JSON once filled: line 1"},
        {"{\"a\": {{n}}, \"a\": 1}", "not JSON once filled: line 1"},
        {"{{n}}", "not JSON once filled"},
        {" ", "not JSON once filled"},
        {"{\"a\": {{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}}",
         "holds no name of 1 to 64"},
    };
    json_t *v = values();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {""};
        char *out = template_fill(rows[i].text, v, &e);
        if (out || !strstr(e.text, rows[i].why))
            fail_msg("%s: gave %s, said: %s", rows[i].text, out ? out : "nothing", e.text);
    }
    json_decref(v);
}

static void a_check_needs_no_values(void **state)
{
    (void)state;
    static const char *const names[] = {"duration_ms", "justification", NULL};
    struct err e = {""};
    assert_int_equal(
        template_check("{\"duration\": {{duration_ms}}, \"justification\": {{justification}}}", names, &e), 0);
    assert_int_equal(template_check("", names, &e), 0);
    assert_int_equal(template_check("{\"key\": {{key}}}", names, &e), -1);
    assert_non_null(strstr(e.text, "there is no {{key}}"));
    /* As the name of a field only a text would do: refused, whatever it will be. */
    assert_int_equal(template_check("{ {{justification}}: 1}", names, &e), -1);
    assert_int_equal(template_check("{\"duration\": \"{{duration_ms}}\"}", names, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_json_values),
        cmocka_unit_test(what_cannot_be_filled_is_refused),
        cmocka_unit_test(a_check_needs_no_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
