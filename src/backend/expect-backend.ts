import { CorralError, formatValue } from '../base/errors.js'
import type { Backend } from './backend.js'

/** @throws CorralError `ERR_CHAIN` unless the value has the members of every backend. */
export function expectBackend(value: unknown, expectation: string): Backend {
  const candidate = value as Partial<Backend> | null | undefined
  if (
    typeof candidate === 'object' &&
    candidate !== null &&
    typeof candidate.get === 'function' &&
    typeof candidate.acquire === 'function' &&
    // What defineBackend() received is no backend yet, also where it has a lease of its own.
    typeof candidate.actual === 'object'
  )
    return candidate as Backend
  const remedy =
    typeof value === 'function'
      ? 'Call factories, memory() and not memory, and put proxies behind the backend: wrap(memory(), …).'
      : 'Complete your own with defineBackend().'
  throw new CorralError('ERR_CHAIN', `Expected ${expectation}, got ${formatValue(value)}. ${remedy}`)
}
