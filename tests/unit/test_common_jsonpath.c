/* test_common_jsonpath.c - singular queries of RFC 9535: what they find, and what is none. */
#include "common/jsonpath.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char document[] =
    "{\"a\": {\"b\": [10, 20, {\"c\": \"deep\"}], \"b c\": 1, \"'\": 2, \"\\\"\": 3, \"\\\\\": 4, \"\\u263a\": 5,"
    " \"\\ud834\\udd1e\": 6, \"\\n\": 7, \"\": 8, \"/\": 9, \"j.k\": 11},"
    " \"t\": true, \"n\": null, \"x_1\": 1.5, \"\xc3\xa9t\xc3\xa9\": \"summer\", \"0\": \"zero\", \"e\": [], \"o\": "
    "{\"p\": [1]}}";

static void finds_one_value(void **state)
{
    static const struct {
        const char *path, *want; /* NULL = there is none */
    } cases[] = {
        {"$.a.b[0]", "10"},
        {"$.a.b[1]", "20"},
        {"$.a.b[2].c", "deep"},
        {"$['a'][\"b\"][2]['c']", "deep"},
        {"$ [ 'a' ] .b [ -1 ] .c", "deep"},
        {"$.a.b[-3]", "10"},
        {"$.a.b[-4]", NULL},
        {"$.a.b[3]", NULL},
        {"$.a.b[9007199254740991]", NULL},
        {"$.a.b[-9007199254740991]", NULL},
        {"$.a.b.c", NULL},  /* a name of an array */
        {"$.a[0]", NULL},   /* an index of an object */
        {"$['0']", "zero"}, /* a name that looks like an index */
        {"$.t[0]", NULL},
        {"$.t.x", NULL},
        {"$['a']['b c']", "1"},
        {"$.a['\\'']", "2"},
        {"$.a[\"'\"]", "2"},
        {"$.a[\"\\\"\"]", "3"},
        {"$.a['\"']", "3"},
        {"$.a['\\\\']", "4"},
        {"$.a['\\u263a']", "5"},
        {"$.a['\xe2\x98\xba']", "5"},
        {"$.a.\xe2\x98\xba", "5"},
        {"$.a['\\uD834\\uDD1E']", "6"},
        {"$.a['\\n']", "7"},
        {"$.a['']", "8"},
        {"$.a['\\/']", "9"},
        {"$.a['j.k']", "11"},
        {"$.a['\\u0000']", NULL},
        {"$.a['b\\u0000']", NULL}, /* not taken for b */
        {"$.t", "true"},
        {"$.n", "null"},
        {"$.x_1", "1.5"},
        {"$.\xc3\xa9t\xc3\xa9", "summer"},
        {"$.e", "[]"},
        {"$.o", "{\"p\":[1]}"},
        {"$.e[0]", NULL},
        {"$.e[-1]", NULL},
        {"$.none", NULL},
    };
    (void)state;
    json_t *doc = json_loads(document, 0, NULL);
    assert_non_null(doc);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {""};
        struct jsonpath *p = jsonpath_compile(cases[i].path, &e);
        if (!p)
            print_message("%s: %s\n", cases[i].path, e.text);
        assert_non_null(p);
        const json_t *v = jsonpath_find(p, doc);
        if ((v != NULL) != (cases[i].want != NULL))
            print_message("%s\n", cases[i].path);
        assert_int_equal(v != NULL, cases[i].want != NULL);
        if (v) {
            char *text = jsonpath_text(v);
            assert_string_equal(text, cases[i].want);
            assert_true(jsonpath_equals(v, cases[i].want));
            assert_false(jsonpath_equals(v, "something else"));
            free(text);
        }
        jsonpath_free(p);
    }
    struct jsonpath *root = jsonpath_compile("$", NULL);
    assert_ptr_equal(jsonpath_find(root, doc), doc);
    jsonpath_free(root);
    jsonpath_free(NULL);
    json_decref(doc);
}

static void what_is_no_path_says_where(void **state)
{
    static const struct {
        const char *path, *says;
    } wrong[] = {
        {"", "begins with $"},
        {"a.b", "begins with $"},
        {"$a", "expected . or ["},
        {"$.", "expected a name"},
        {"$.1a", "expected a name"},
        {"$.a.", "expected a name"},
        {"$.*", "expected a name"},
        {"$..a", ".. is not allowed"},
        {"$.a b", "expected . or ["},
        {"$. a", "expected a name"},
        {"$.a-b", "expected . or ["},
        {"$.a ", "blanks at the end"},
        {"$[", "expected a 'name'"},
        {"$[]", "expected a 'name'"},
        {"$[*]", "expected a 'name'"},
        {"$[?@.a]", "expected a 'name'"},
        {"$[0:1]", "expected ]"},
        {"$[0,1]", "expected ]"},
        {"$['a','b']", "expected ]"},
        {"$[01]", "leading zero"},
        {"$[-0]", "-0"},
        {"$[-01]", "leading zero"},
        {"$[1.0]", "expected ]"},
        {"$[+1]", "expected a 'name'"},
        {"$[9007199254740992]", "too large"},
        {"$[99999999999999999999999]", "too large"},
        {"$['a]", "not closed"},
        {"$['a\"]", "not closed"},
        {"$['\\", "unknown escape"},
        {"$['\\x41']", "unknown escape"},
        {"$['\\\"']", "unknown escape"}, /* the other quote needs none, and may have none */
        {"$[\"\\'\"]", "unknown escape"},
        {"$['\n']", "control character"},
        {"$['\\u12']", "four hexadecimal"},
        {"$['\\ud800']", "without the second"},
        {"$['\\ud800\\u0041']", "without the second"},
        {"$['\\udc00']", "without the first"},
        {"$.\xff", "not UTF-8"},
        {"$.a[0", "expected ]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {""};
        struct jsonpath *p = jsonpath_compile(wrong[i].path, &e);
        if (p || !strstr(e.text, wrong[i].says))
            print_message("%s: %s\n", wrong[i].path, p ? "taken" : e.text);
        assert_null(p);
        assert_non_null(strstr(e.text, wrong[i].says));
    }
    struct err e = {""};
    char longest[JSONPATH_TEXT_MAX + 2] = "$";
    for (size_t i = 1; i + 3 < sizeof longest; i += 3)
        memcpy(longest + i, "[0]", 4);
    assert_null(jsonpath_compile(longest, &e));
    assert_non_null(strstr(e.text, "too many steps"));
    memset(longest, 'a', sizeof longest - 1);
    memcpy(longest, "$.", 2);
    longest[sizeof longest - 1] = 0;
    assert_null(jsonpath_compile(longest, &e));
    assert_non_null(strstr(e.text, "longer"));
    longest[JSONPATH_TEXT_MAX] = 0; /* the longest name there is */
    struct jsonpath *p = jsonpath_compile(longest, &e);
    assert_non_null(p);
    jsonpath_free(p);
}

static void numbers_are_compared_as_numbers(void **state)
{
    static const struct {
        const char *json, *text;
        bool same;
    } cases[] = {{"3", "3", true},        {"3", "3.0", true},
                 {"3.0", "3", true},      {"3", "3e0", true},
                 {"0.1", "0.1", true},    {"0.1", "0.10", true},
                 {"0.1", "1e-1", true},   {"-0.0", "0", true},
                 {"3", "4", false},       {"3", "", false},
                 {"3", "3 ", false},      {"3", "0x3", false},
                 {"3", "three", false},   {"\"3\"", "3", true},
                 {"\"3\"", "3.0", false}, {"9007199254740993", "9007199254740992", false},
                 {"true", "true", true},  {"true", "1", false},
                 {"null", "", false},     {"\"\"", "", true},
                 {"1e300", "inf", false}, {"1", "1e999", false},
                 {"1e300", "1e300", true}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *v = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        assert_non_null(v);
        if (jsonpath_equals(v, cases[i].text) != cases[i].same)
            print_message("%s and %s\n", cases[i].json, cases[i].text);
        assert_int_equal(jsonpath_equals(v, cases[i].text), cases[i].same);
        json_decref(v);
    }
    json_t *v = json_loads("0.1", JSON_DECODE_ANY, NULL);
    char *text = jsonpath_text(v);
    assert_string_equal(text, "0.1"); /* not 0.10000000000000001 */
    free(text);
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_one_value),
        cmocka_unit_test(what_is_no_path_says_where),
        cmocka_unit_test(numbers_are_compared_as_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
