/* store_command.c - a command in Redis' protocol, in one go: hiredis prints each argument with sprintf(), which costs more than the
 * rest of a flush. */
#include "common/store_ring.h"
#include <assert.h>
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
