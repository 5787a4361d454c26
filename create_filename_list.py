from mlx_headpose.cli import main

main("create_filename_list")
