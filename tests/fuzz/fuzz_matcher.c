/* fuzz_matcher.c - matchers and alerts from anybody: refused with a reason, or compared to an end, and each with its opposite. */
#include "common/matcher.h"
#include "random.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t tried, read_, fit;

/* The same matcher with the opposite operator; NULL if it has none. */
static char *opposite(const char *text)
{
    size_t at = strcspn(text, "=!<>");
    const char *op = text + at, *other = NULL, *value = NULL;
    if (strncmp(op, "=~", 2) == 0)
        other = "!~", value = op + 2;
    else if (strncmp(op, "!~", 2) == 0)
        other = "=~", value = op + 2;
    else if (strncmp(op, "!=", 2) == 0)
        other = "=", value = op + 2;
    else if (*op == '=' && op[1] != '~')
        other = "!=", value = op + 1;
    if (!other || (strcmp(other, "=") == 0 && *value == '~'))
        return NULL; /* `!=~` would read as `=~` */
    char *turned = malloc(strlen(text) + 3);
    assert(turned);
    sprintf(turned, "%.*s%s%s", (int)at, text, other, value);
    return turned;
}

/* Texts, each up to its zero: the matcher, agent, target, a label's value; the rest gives severity and failure_kind. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text[4];
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        size_t end = at;
        while (end < size && data[end])
            end++;
        text[i] = strndup((const char *)data + at, end - at);
        at = end < size ? end + 1 : size;
    }
    PB(Label) label = REDOUBT__V1__LABEL__INIT;
    PB(Label) * labels[] = {&label};
    label.key = (char *)"team";
    label.value = text[3];
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    a.agent = text[1];
    a.target = text[2];
    a.labels = labels;
    a.n_labels = 1;
    a.severity = (Redoubt__V1__Severity)(at < size ? data[at] % 5 : 0);
    a.failure_kind = (Redoubt__V1__FailureKind)(at + 1 < size ? data[at + 1] % 7 : 0);
    struct err e = {""};
    const char *one = text[0];
    struct matchers *m = matchers_new(&one, 1, &e);
    assert((m != NULL) == (*e.text == 0));
    tried++;
    if (m) {
        read_++;
        bool yes = matchers_fit(m, &a);
        fit += yes;
        char *turned = opposite(one);
        const char *both[] = {one, turned};
        if (turned) {
            struct matchers *other = matchers_new(both + 1, 1, &e), *two = matchers_new(both, 2, &e);
            assert(other && two);
            bool no = matchers_fit(other, &a);
            assert(yes || no); /* both only where a limit was hit */
            assert(yes != no || strstr(one, "~"));
            assert(matchers_fit(two, &a) == (yes && no));
            matchers_free(other);
            matchers_free(two);
        }
        free(turned);
    }
    matchers_free(m);
    for (int i = 0; i < 4; i++)
        free(text[i]);
    return 0;
}

#define PICK(r, list) list[fuzz_below(r, sizeof list / sizeof list[0])]

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    static const char *const fields[] = {"severity",   "source",  "agent",  "target", "failure_kind", "dedup_key",
                                         "label.team", "label.x", "label.", "team",   "agent ",       ""},
                             *const ops[] = {"=", "!=", "=~", "!~", ">=", "<=", "<", "!"},
                             *const values[] = {"",     "high",      "CRITICAL", "llm_outage", "a",        "web",
                                                "a.*",  "(a+)+b",    "[",        "a|b",        "\xc3\xa9", "(?i)A",
                                                "^a$",  "(*ACCEPT)", "=~",       ")",          "\\Ka",     ".",
                                                "\xff", "(?=a)",     "(?R)"},
                             *const texts[] = {"",    "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                               "web", "b", "\xc3\xa9"};
    if (room < 400)
        return 0;
    int n = snprintf((char *)buf, room, "%s%s%s", PICK(r, fields), PICK(r, ops), PICK(r, values));
    size_t len = (size_t)n + 1;
    for (int i = 0; i < 3; i++)
        len += (size_t)snprintf((char *)buf + len, room - len, "%s", PICK(r, texts)) + 1;
    buf[len++] = (uint8_t)fuzz_below(r, 256);
    buf[len++] = (uint8_t)fuzz_below(r, 256);
    return fuzz_below(r, 3) == 0 ? fuzz_mutate(r, buf, len, room) : len;
}

static void fuzz_report(void)
{
    printf("%llu tried: %llu matchers, %llu fit\n", (unsigned long long)tried, (unsigned long long)read_,
           (unsigned long long)fit);
    assert(tried < 1000 || (read_ > tried / 10 && fit > tried / 30));
}

#include "driver.h"
