/* store_command.c - a command in Redis' protocol, in one go: hiredis prints each argument with sprintf(), which costs more than the
 * rest of a flush. */
#include "common/store_ring.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 20

static char *put_number(char *p, char kind, size_t v)
{
    char digits[DIGITS_MAX];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    *p++ = kind;
    while (n > 0)
        *p++ = digits[--n];
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

char *store_command(int argc, const char *const *argv, const size_t *lens, size_t *ret_len)
{
    size_t room = DIGITS_MAX + 3;
    assert(argc > 0);
    for (int i = 0; i < argc; i++)
        room += (lens ? lens[i] : strlen(argv[i])) + DIGITS_MAX + 5;
    char *cmd = malloc(room + 1);
    if (!cmd)
        return NULL;
    char *p = put_number(cmd, '*', (size_t)argc);
    for (int i = 0; i < argc; i++) {
        size_t len = lens ? lens[i] : strlen(argv[i]);
        p = put_number(p, '$', len);
        memcpy(p, argv[i], len);
        p += len;
        *p++ = '\r';
        *p++ = '\n';
    }
    *p = 0;
    *ret_len = (size_t)(p - cmd);
    return cmd;
}

/* EVALSHA and EVAL differ in the first two arguments only. What stands before `numkeys` in "*N $7 EVALSHA $40 SHA": */
static size_t evalsha_head(const char *cmd)
{
    const char *count_end = strstr(cmd, "\r\n");
    assert(count_end);
    return (size_t)(count_end - cmd) + strlen("\r\n$7\r\nEVALSHA\r\n$40\r\n") + 40 + strlen("\r\n");
}

char *store_eval_command(const char *evalsha, size_t len, const char *body, size_t *ret_len)
{
    size_t head = evalsha_head(evalsha), max = len + strlen(body) + 64;
    char *cmd = malloc(max);
    if (!cmd)
        return NULL;
    int count_len = (int)(strstr(evalsha, "\r\n") - evalsha);
    size_t n =
        (size_t)snprintf(cmd, max, "%.*s\r\n$4\r\nEVAL\r\n$%zu\r\n%s\r\n", count_len, evalsha, strlen(body), body);
    memcpy(cmd + n, evalsha + head, len - head);
    *ret_len = n + len - head;
    return cmd;
}
