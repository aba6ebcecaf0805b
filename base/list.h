/* A doubly linked list whose links live inside the objects: no allocation, removal in O(1). The
 * head is a link of its own; an object outside any list has a link that points to itself. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>

#include "base/compiler.h"

struct list {
    struct list *prev, *next; /* borrowed neighbours */
};

static inline void list_init(struct list *l)
{
    l->prev = l;
    l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/** list_push() - add an unlinked `item` at the end of the list at `head` */
static inline void list_push(struct list *head, struct list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}

/** list_remove() - unlink; harmless on an initialised link that is in no list */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* Walk the objects of a list; `next` keeps the walk alive when `it` is removed on the way. */
#define list_for_each(it, next_, head, type, member)                                               \
    for (type *it = container_of((head)->next, type, member),                                      \
              *next_ = container_of(it->member.next, type, member);                                \
         &it->member != (head); it = next_, next_ = container_of(it->member.next, type, member))

#endif
