import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { makeRegion, type Region, wrap } from '../../src/index.js'
import { type VersionedOptions, versioned } from '../../src/session/index.js'

/** A table with a version for each row, which counts how often it is read and how often it is asked for a version. */
export function table() {
  const rows = new Map<string, { version: number; text: string }>()
  const seen = { versions: 0, reads: 0 }
  const row = (id: string) => rows.get(id) ?? { version: 0, text: '' }
  return {
    seen,
    write(id: string, text: string) {
      rows.set(id, { version: row(id).version + 1, text })
    },
    version(id: string): number {
      seen.versions++
      return row(id).version
    },
    read(id: string): string {
      seen.reads++
      return row(id).text
    },
  }
}

/** A cached read of a table's rows. */
export function cachedTable(options: Partial<VersionedOptions<[id: string]>> = {}) {
  const data = table()
  const read = versioned({ namespace: 'row', version: data.version, ...options })(async (id: string) =>
    data.read(id),
  )
  return { ...data, cached: read }
}

/** A region that tracks dependencies, over a memory of its own. */
export function tracked(name = 'tracked'): Region {
  return makeRegion({ name, backend: wrap(memory(), dependencies()) })
}
