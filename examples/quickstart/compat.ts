import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

/** A feature of the web and since when an audience can rely on it. */
export interface Usable {
  readonly feature: string
  readonly since: string
}

interface Release {
  readonly release_date?: string
}
interface Support {
  readonly version_added?: string | boolean | null
  readonly version_removed?: string | boolean
  readonly flags?: unknown
}
interface Node {
  readonly __compat?: { readonly support: Readonly<Record<string, Support | readonly Support[]>> }
}
type Data = Readonly<Record<string, unknown>> & {
  readonly browsers: Readonly<Record<string, { readonly releases: Readonly<Record<string, Release>> }>>
}

const path = createRequire(import.meta.url).resolve('@mdn/browser-compat-data')
const AREAS = ['api', 'css', 'html', 'http', 'javascript', 'mathml', 'svg', 'webassembly']

/**
 * Which features of the web work in every one of these browsers, and since when: the newest of the dates at which each
 * browser got it. Expensive as such queries are: it reads and walks all of MDN's compatibility data each time.
 */
export async function usableIn(browsers: readonly string[], signal?: AbortSignal): Promise<Usable[]> {
  const text = await readFile(path, signal === undefined ? 'utf8' : { encoding: 'utf8', signal })
  const data = JSON.parse(text) as Data
  const found: Usable[] = []
  const walk = (node: Node & Readonly<Record<string, unknown>>, name: string): void => {
    const support = node.__compat?.support
    if (support !== undefined) {
      const dates = browsers.map((browser) => since(data, browser, support[browser]))
      if (dates.every((date) => date !== undefined))
        found.push({ feature: name, since: dates.reduce((one, other) => (one > other ? one : other), '') })
    }
    for (const [part, child] of Object.entries(node))
      if (part !== '__compat' && typeof child === 'object' && child !== null)
        walk(child as Node & Readonly<Record<string, unknown>>, `${name}.${part}`)
  }
  for (const area of AREAS) walk(data[area] as Node & Readonly<Record<string, unknown>>, area)
  return found.sort((one, other) => (one.since < other.since ? 1 : -1))
}

/** When a browser got a feature for good, without a flag. */
function since(
  data: Data,
  browser: string,
  support: Support | readonly Support[] | undefined,
): string | undefined {
  const [newest] = Array.isArray(support) ? (support as readonly Support[]) : [support as Support | undefined]
  const version = newest?.version_added
  if (typeof version !== 'string' || newest?.version_removed !== undefined || newest?.flags !== undefined)
    return undefined
  return data.browsers[browser]?.releases[version.replace('≤', '')]?.release_date
}
