/* alert_body_process.c - the process that runs one channel's template: messages come on its stdin, bodies go out on its stdout. */
#include "alert/alert_body.h"
#include "alert/alert_template.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX (4 * ALERT_JSON_MAX)

/* Zero-terminated; NULL at the end of the input, or if it is none of ours. */
static char *read_one(size_t *ret_len)
{
    uint32_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1 || n > INPUT_MAX)
        return NULL;
    char *text = malloc((size_t)n + 1);
    if (!text || fread(text, 1, n, stdin) != n) {
        free(text);
        return NULL;
    }
    text[n] = 0;
    *ret_len = n;
    return text;
}

static bool write_one(enum alert_body_answer kind, const char *text, size_t len)
{
    uint32_t n = (uint32_t)len;
    return putchar(kind) != EOF && fwrite(&n, sizeof n, 1, stdout) == 1 && fwrite(text, 1, len, stdout) == len &&
           fflush(stdout) == 0;
}

int alert_body_process(void)
{
    size_t len;
    closefrom(3);
    alert_template_confine();
    char *text = read_one(&len);
    if (!text)
        return 1;
    struct err wrong = {""};
    alert_template_time(ALERT_TEMPLATE_CPU_S);
    struct alert_template *t = alert_template_new(text, &wrong);
    free(text);
    for (bool ok = true; ok && (text = read_one(&len)) != NULL; free(text)) {
        struct err e = wrong;
        size_t n = 0;
        bool json = false;
        alert_template_time(ALERT_TEMPLATE_CPU_S);
        char *body = t ? alert_template_run(t, text, len, &n, &json, &e) : NULL;
        alert_template_time(0);
        ok = body ? write_one(json ? ALERT_BODY_JSON : ALERT_BODY_TEXT, body, n)
                  : write_one(ALERT_BODY_WRONG, e.text, strlen(e.text));
        free(body);
    }
    alert_template_free(t);
    return 0;
}
