/// What is packed into the library: the schemas of manifest.json that every reader of bundles shares, and the sets of code
/// points of docs/bundle.md. A module of its own, since the compiler takes long over it.
public enum Packed {
  public static let schema1 = PackageResources.bundle_1_schema_json
  public static let schema2 = PackageResources.bundle_schema_json
  public static let codePoints = PackageResources.code_points_txt
}
