import initSqlJs from 'sql.js'
import { DataSource, type DataSourceOptions } from 'typeorm'

/** A database in memory with the tables of these entities. */
export async function openSqlJs(entities: NonNullable<DataSourceOptions['entities']>): Promise<DataSource> {
  const driver = await initSqlJs()
  return new DataSource({ type: 'sqljs', driver, entities, synchronize: true }).initialize()
}
