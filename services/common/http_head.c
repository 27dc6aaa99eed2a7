/* http_head.c - header lines: their form, and those that an answer has. */
#include "common/http_priv.h"
#include <string.h>

bool http_header_split(const char *line, size_t *ret_name_len, const char **ret_value)
{
    size_t n = strspn(line, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    if (n == 0 || line[n] != ':')
        return false;
    const char *value = line + n + 1;
    value += strspn(value, " \t");
    for (const char *c = value; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return false;
    *ret_name_len = n;
    *ret_value = value;
    return true;
}

const char *http_header(const struct http_call *c, const char *name, size_t nth)
{
    struct curl_header *head;
    if (!c->easy || c->mail || curl_easy_header(c->easy, name, nth, CURLH_HEADER, -1, &head) != CURLHE_OK)
        return NULL;
    return head->value;
}
