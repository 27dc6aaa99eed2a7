/* escape.c - bytes written in text: \r \n \t \\ and \xHH. */
#include "common/escape.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int escape_decode(const char *text, char *out, size_t *ret_len, struct err *e)
{
    static const char from[] = "rnt\\", to[] = "\r\n\t\\";
    size_t n = 0;
    for (const char *at = text; *at; n++) {
        const char *place = at;
        char c = *at++;
        if (c == '\\') {
            const char *known = *at ? strchr(from, *at) : NULL;
            if (known) {
                c = to[known - from];
                at++;
            } else if (*at == 'x' && isxdigit((unsigned char)at[1]) && isxdigit((unsigned char)at[2])) {
                const char hex[3] = {at[1], at[2], 0};
                c = (char)strtoul(hex, NULL, 16);
                at += 3;
            } else {
                return err_set(e, "an unknown escape at character %zu; known are \\r, \\n, \\t, \\\\ and \\xHH",
                               (size_t)(place - text) + 1);
            }
        }
        if (out)
            out[n] = c;
    }
    if (ret_len)
        *ret_len = n;
    return 0;
}
