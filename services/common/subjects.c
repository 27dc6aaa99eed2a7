/* subjects.c - name rules of the contract. */
#include "common/subjects.h"
#include <string.h>

static bool token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

bool name_token_ok(const char *s)
{
    size_t n = 0;
    while (n <= NAME_MAX_LEN && token_char(s[n]))
        n++;
    return n >= 1 && n <= NAME_MAX_LEN && s[n] == 0;
}

bool name_target_ok(const char *s)
{
    size_t n = 0, token = 0;
    for (; n <= TARGET_MAX_LEN && s[n]; n++) {
        if (token_char(s[n]))
            token++;
        else if (s[n] == '.' && token > 0)
            token = 0;
        else
            return false;
        if (token > NAME_MAX_LEN)
            return false;
    }
    return token > 0 && n <= TARGET_MAX_LEN;
}

const char *subject_tail(const char *subject, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(subject, prefix, n) == 0 && subject[n] ? subject + n : NULL;
}
