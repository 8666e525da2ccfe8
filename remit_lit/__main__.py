from remit_lit.cli.dispatch import main

if __name__ == "__main__":
    main()
