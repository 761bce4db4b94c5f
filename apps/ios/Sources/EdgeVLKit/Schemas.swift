/// What is packed into the library: the schemas of manifest.json that every reader of bundles shares, and the sets of code
/// points of docs/bundle.md.
enum Schemas {
  static let version1 = PackageResources.bundle_1_schema_json
  static let version2 = PackageResources.bundle_schema_json
  static let codePoints = PackageResources.code_points_txt
}
