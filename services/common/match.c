/* match.c - PCRE2 behind limits: compiled once, matched with bounded steps, depth and memory. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/match.h"
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Steps: a millisecond or two for a short subject, and two for each byte of a long one. Depth is one for each turn of a repeated group. */
#define STEPS_BASE     50000
#define STEPS_PER_BYTE 2
#define STEPS_MAX      1000000
#define DEPTH_MAX      10000
#define HEAP_MAX_KIB   2048

struct match {
    pcre2_code *code;
    pcre2_match_context *limits;
    int last; /* what the last match ended with */
};

struct match *match_compile(const char *pattern, enum match_mode mode, struct err *e)
{
    /* \C would split characters; (*UTF) in bytes would read them as what they are not. */
    const uint32_t options = PCRE2_NEVER_BACKSLASH_C |
                             (mode == MATCH_BYTES ? PCRE2_NEVER_UTF : PCRE2_UTF | PCRE2_MATCH_INVALID_UTF) |
                             (mode == MATCH_WHOLE ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0);
    size_t len = strlen(pattern), at = 0;
    int code = 0;
    struct match *m = calloc(1, sizeof *m);
    if (!m || !(m->limits = pcre2_match_context_create(NULL))) {
        err_set(e, "out of memory");
        match_free(m);
        return NULL;
    }
    if (len > MATCH_PATTERN_MAX) {
        err_set(e, "the pattern is longer than %d bytes", MATCH_PATTERN_MAX);
        match_free(m);
        return NULL;
    }
    m->code = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &at, NULL);
    if (!m->code) {
        char text[160] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        err_set(e, "%s, at character %zu of the pattern", text, at + 1);
        match_free(m);
        return NULL;
    }
    (void)pcre2_set_depth_limit(m->limits, DEPTH_MAX);
    (void)pcre2_set_heap_limit(m->limits, HEAP_MAX_KIB);
    m->last = PCRE2_ERROR_NOMATCH;
    return m;
}

enum match_result match_run(struct match *m, const char *subject, size_t len)
{
    if (len > MATCH_SUBJECT_MAX)
        len = MATCH_SUBJECT_MAX;
    size_t steps = STEPS_BASE + STEPS_PER_BYTE * len;
    (void)pcre2_set_match_limit(m->limits, (uint32_t)(steps < STEPS_MAX ? steps : STEPS_MAX));
    /* Of its own for each match: the library keeps the memory of the dearest match for as long as this lives. */
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    m->last = data ? pcre2_match(m->code, (PCRE2_SPTR)(subject ? subject : ""), len, 0, 0, data, m->limits)
                   : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    if (m->last >= 0) /* 0: it matches, and has more groups than we ask for */
        return MATCH_YES;
    return m->last == PCRE2_ERROR_NOMATCH ? MATCH_NO : MATCH_LIMIT;
}

const char *match_why(const struct match *m)
{
    switch (m->last) {
    case PCRE2_ERROR_NOMATCH:
        return "no match";
    case PCRE2_ERROR_MATCHLIMIT:
        return "the limit of steps for a match was hit";
    case PCRE2_ERROR_DEPTHLIMIT:
        return "the limit of depth for a match was hit";
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_NOMEMORY:
        return "the limit of memory for a match was hit";
    case PCRE2_ERROR_RECURSELOOP:
        return "the pattern calls itself without end";
    default:
        return m->last >= 0 ? "it matches" : "the match could not be made";
    }
}

void match_free(struct match *m)
{
    if (!m)
        return;
    pcre2_code_free(m->code);
    pcre2_match_context_free(m->limits);
    free(m);
}
