import type { Case } from './context.js'
import { entryCases } from './entry-cases.js'
import { leaseCases } from './lease-cases.js'
import { ledgerCases } from './ledger-cases.js'

/**
 * The contract of every backend, for any store. Data: each case has a name, a need and a run.
 * @example
 * ```ts
 * import { backendCases } from 'corral/testing'
 *
 * export const names = backendCases.map(({ name }) => name)
 * ```
 */
export const backendCases: readonly Case[] = [...entryCases, ...leaseCases, ...ledgerCases]
