/** The tables that a statement changes, by its words. */

const NAME = /(?:"(?:[^"]|""){1,128}"|`[^`]{1,128}`|\[[^\]]{1,128}\]|[\p{L}\p{N}_$]+)/u.source
const WORDS =
  '(?:\\s+(?:ignore|low_priority|high_priority|delayed|quick|only|or\\s+\\w+|top\\s*\\([^)]{1,20}\\)|into|from|table))*'
const WRITE = new RegExp(
  `\\b(?:insert|upsert|replace|merge|update|delete|truncate)${WORDS}\\s+(?:${NAME}\\s*\\.\\s*)*(${NAME})`,
  'giu',
)
const COMMENT = /\/\*.*?\*\/|--[^\n]*/gs
/** Most statements are of this kind. */
const SELECT = /^\s*select\b[^;]*$/i

/** The tables that raw SQL changes, as far as its words show, without their schemas, in lower case. */
export const tablesWrittenBy = (sql: string): readonly string[] =>
  SELECT.test(sql)
    ? []
    : Array.from(sql.replace(COMMENT, ' ').matchAll(WRITE), ([, name = '']) =>
        name.replace(/["`[\]]/g, '').toLowerCase(),
      )
