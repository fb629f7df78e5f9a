import { EntitySchema, type Ref } from '@mikro-orm/core'

export class Author {
  declare id: number
  declare name: string
}

export class Category {
  declare id: number
  declare name: string
}

export class Article {
  declare id: number
  declare title: string
  declare text: string
  declare published: boolean
  declare author: Ref<Author>
  declare category: Ref<Category>
  /** Grows with each change: a form that was filled in from an older one is refused. */
  declare version: number
}

const id = { type: 'number', primary: true, autoincrement: true } as const

export const entities = [
  new EntitySchema<Author>({ class: Author, properties: { id, name: { type: 'string' } } }),
  new EntitySchema<Category>({ class: Category, properties: { id, name: { type: 'string' } } }),
  new EntitySchema<Article>({
    class: Article,
    properties: {
      id,
      title: { type: 'string' },
      text: { type: 'text' },
      published: { type: 'boolean' },
      author: { kind: 'm:1', entity: () => Author, ref: true },
      category: { kind: 'm:1', entity: () => Category, ref: true },
      version: { type: 'number', version: true },
    },
  }),
]
