from scarcegan.cli.main import main

main()
