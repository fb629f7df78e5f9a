/** The tables that a statement changes, by its words. */

const NAME = /(?:["`[][^"`\]]+["`\]]|[\w$]+)/.source
const WRITE = new RegExp(
  `\\b(?:insert(?:\\s+ignore|\\s+or\\s+\\w+)?\\s+into|(?:replace|merge)\\s+into|update(?:\\s+or\\s+\\w+)?|delete\\s+from|` +
    `truncate(?:\\s+table)?)\\s+(?:only\\s+)?(?:${NAME}\\.)*(${NAME})`,
  'gi',
)
/** Most statements are of this kind. */
const SELECT = /^\s*select\b[^;]*$/i

/** The tables that raw SQL changes, as far as its words show, without their schemas, in lower case. */
export const tablesWrittenBy = (sql: string): readonly string[] =>
  SELECT.test(sql)
    ? []
    : Array.from(sql.matchAll(WRITE), ([, name = '']) => name.replace(/["`[\]]/g, '').toLowerCase())
