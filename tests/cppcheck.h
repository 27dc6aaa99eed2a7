/* cppcheck.h - what cppcheck, which reads no system headers here, must know of uthash to follow the code. */
#define HASH_ITER(hh, head, el, tmp) for ((el) = (head), (tmp) = (el); (el); (el) = (tmp))
