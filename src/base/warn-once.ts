import { processGlobal } from './process-global.js'

/** What was said already; so many at most that what comes from outside does not fill memory, or a log. */
const warned = processGlobal('warned', () => new Set<string>())
const LIMIT = 1_000

/** A warning of the process, once for what it is about. */
export function warnOnce(about: string, message: () => string): void {
  if (warned.has(about) || warned.size >= LIMIT) return
  warned.add(about)
  process.emitWarning(message(), 'CorralWarning')
}
